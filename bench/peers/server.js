// A web server as small as can be, by itself and as a web function.
require('http').createServer((request, response) => response.end('hello world\n')).listen(Number(process.argv[2]), '0.0.0.0');
