//! Starts the server of a web function. Virga itself connects to it once it listens.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use sandbox::confined::Pipes;

use super::program::{end_with, fail, ready, refuse, start};
use crate::assignment::Assignment;
use crate::web::PORT;

/// Longest pause between attempts to connect.
const POLL_INTERVAL_MAX: Duration = Duration::from_millis(8);

/// Starts the server and reports when it listens. Ends with the server, or with virga.
pub(super) fn run(assignment: &Assignment, mut pipes: Pipes, begun: Instant) -> ! {
    match start(assignment, &[]) {
        Ok(child) => end_with(child),
        Err(why) => refuse(pipes.answers, &why),
    }
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
    let mut pause = Duration::from_millis(1);
    while TcpStream::connect(address).is_err() {
        std::thread::sleep(pause);
        pause = (2 * pause).min(POLL_INTERVAL_MAX);
    }
    if let Err(e) = pipes.answers.write_all(&ready(begun)) {
        fail(&e);
    }
    // No frames follow; the read returns when virga closes the pipe.
    let _ = pipes.requests.read(&mut [0]);
    std::process::exit(0)
}
