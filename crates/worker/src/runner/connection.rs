//! A connection of the program to the runtime API, which knows whether the program read all that was sent to it.

use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// The state of a connection, which outlives its use.
///
/// The kernel resets a connection whose end is closed while bytes wait there unread, as that of a process that ends.
#[derive(Debug)]
pub(super) struct ProgramConnection {
    socket: std::net::TcpStream,
    /// Whether a read or write reported it.
    reset: AtomicBool,
}

impl ProgramConnection {
    /// Returns whether the program closed it without reading all of it.
    pub(super) fn was_reset(&self) -> bool {
        self.reset.load(Ordering::Relaxed) || matches!(self.socket.take_error(), Ok(Some(_)))
    }

    /// Closes virga's direction.
    pub(super) fn shut_down(&self) {
        let _ = self.socket.shutdown(Shutdown::Write);
    }
}

/// A stream that records in its [`ProgramConnection`] how it ends.
#[derive(Debug)]
pub(super) struct WatchedStream {
    stream: TcpStream,
    connection: Arc<ProgramConnection>,
}

impl WatchedStream {
    pub(super) fn new(stream: TcpStream) -> io::Result<(Self, Arc<ProgramConnection>)> {
        let connection = Arc::new(ProgramConnection {
            socket: stream.as_fd().try_clone_to_owned()?.into(),
            reset: AtomicBool::new(false),
        });
        let watched = Self {
            stream,
            connection: connection.clone(),
        };
        Ok((watched, connection))
    }

    fn watch<T>(&self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(_)) = &polled {
            self.connection.reset.store(true, Ordering::Relaxed);
        }
        polled
    }
}

impl AsyncRead for WatchedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.watch(polled)
    }
}

impl AsyncWrite for WatchedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.watch(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::Ipv4Addr;

    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    async fn connect() -> (std::net::TcpStream, WatchedStream, Arc<ProgramConnection>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("a port");
        let address = listener.local_addr().expect("an address");
        let program = std::net::TcpStream::connect(address).expect("connected");
        let (stream, _) = listener.accept().await.expect("accepted");
        let (stream, connection) = WatchedStream::new(stream).expect("watched");
        (program, stream, connection)
    }

    #[tokio::test]
    async fn a_connection_closed_with_unread_bytes_was_reset() {
        for (read, half_closed) in [(true, false), (false, false), (true, true), (false, true)] {
            let (mut program, mut stream, connection) = connect().await;
            program.write_all(b"GET").expect("sent");
            stream.write_all(b"event").await.expect("sent");
            if half_closed {
                drop(stream);
                connection.shut_down();
            }
            let mut first = [0; 5];
            if read {
                program.read_exact(&mut first).expect("read");
            } else {
                program.peek(&mut first).expect("there");
            }
            drop(program);
            assert_eq!(connection.was_reset(), !read, "{half_closed}");
        }
    }
}
