//! The socket of a connection. It detects whether the server has closed it or replied.

use std::io::{self, ErrorKind};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// The state of a connection, shared with its sender.
#[derive(Debug, Default)]
pub(super) struct ConnectionState {
    /// Set if the next write is the first of a request over a reused connection.
    first_write: AtomicBool,
    /// Set if data arrived since the request began.
    replied: AtomicBool,
    /// Set if the server closed the connection while bytes of the request were unread or unsent.
    reset: AtomicBool,
}

impl ConnectionState {
    /// Records that another request is sent.
    pub(super) fn begin(&self) {
        self.replied.store(false, Relaxed);
        self.first_write.store(true, Relaxed);
    }

    /// Returns whether data arrived since the last request began.
    pub(super) fn has_replied(&self) -> bool {
        self.replied.load(Relaxed)
    }
}

impl ConnectionState {
    /// Returns whether the server closed the connection without reading all that was sent, and without a reply. The
    /// kernel resets such a connection.
    pub(super) fn was_reset(&self) -> bool {
        self.reset.load(Relaxed) && !self.has_replied()
    }

    fn watch<T>(&self, done: &Poll<io::Result<T>>) {
        if let Poll::Ready(Err(error)) = done {
            self.failed(error);
        }
    }

    fn failed(&self, error: &io::Error) {
        let kind = error.kind();
        if matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) {
            self.reset.store(true, Relaxed);
        }
    }
}

/// The socket of a connection to a server.
pub(super) struct ServerSocket {
    stream: TcpStream,
    state: Arc<ConnectionState>,
    /// Set if the server has replied and closed without reading all of the request. Further writes are discarded.
    discards_writes: bool,
}

/// The data that is available from the server.
#[derive(PartialEq)]
enum Pending {
    Nothing,
    Bytes,
    End,
}

impl ServerSocket {
    pub(super) fn new(stream: TcpStream, state: Arc<ConnectionState>) -> Self {
        Self {
            stream,
            state,
            discards_writes: false,
        }
    }

    /// Peeks at the socket itself, since the reactor may have no event for it yet.
    fn pending(&self) -> Pending {
        let mut byte = [MaybeUninit::uninit(); 1];
        match SockRef::from(&self.stream).peek(&mut byte) {
            Ok(0) => Pending::End,
            Ok(_) => Pending::Bytes,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                Pending::Nothing
            }
            Err(_) => Pending::End,
        }
    }

    /// Writes, and handles servers that close without reading the whole request.
    fn write(
        &mut self,
        length: usize,
        write: impl FnOnce(Pin<&mut TcpStream>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        // Nothing may be written to a connection that the server has closed: nobody would know whether it was read.
        if self.state.first_write.swap(false, Relaxed) && self.pending() == Pending::End {
            self.state.reset.store(true, Relaxed);
            return Poll::Ready(Err(ErrorKind::ConnectionReset.into()));
        }
        if self.discards_writes {
            return Poll::Ready(Ok(length));
        }
        match write(Pin::new(&mut self.stream)) {
            // The server has replied. hyper reads the reply only after the rest of the request was written without an
            // error.
            Poll::Ready(Err(_)) if self.state.has_replied() || self.pending() == Pending::Bytes => {
                self.discards_writes = true;
                Poll::Ready(Ok(length))
            }
            written => {
                self.state.watch(&written);
                written
            }
        }
    }
}

impl AsyncRead for ServerSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.state.replied.store(true, Relaxed);
        } else if matches!(read, Poll::Ready(Ok(()))) && buf.remaining() > 0 {
            // The end. If the server had closed before the request came, the kernel's reset follows it, and only shows as an error of
            // the socket.
            if let Ok(Some(error)) = self.stream.take_error() {
                self.state.failed(&error);
            }
        }
        self.state.watch(&read);
        read
    }
}

impl AsyncWrite for ServerSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.write(buf.len(), |stream| stream.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = bufs.iter().map(|buf| buf.len()).sum();
        self.write(length, |stream| stream.poll_write_vectored(cx, bufs))
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
