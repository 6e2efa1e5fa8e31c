//! The socket of a connection, which tells whether the server has closed it or replied.

use std::io::{self, ErrorKind};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// The state of a connection, as its sender sees it.
#[derive(Debug, Default)]
pub(super) struct ConnectionState {
    /// Whether the next bytes are the first of a request over a connection that was kept.
    first_write: AtomicBool,
    /// Whether anything came since the request began.
    replied: AtomicBool,
}

impl ConnectionState {
    /// Notes that another request is sent.
    pub(super) fn begin(&self) {
        self.replied.store(false, Relaxed);
        self.first_write.store(true, Relaxed);
    }

    /// Whether anything came since the last request began.
    pub(super) fn has_replied(&self) -> bool {
        self.replied.load(Relaxed)
    }
}

/// A socket.
pub(super) struct ServerSocket {
    stream: TcpStream,
    state: Arc<ConnectionState>,
    /// Whether the server has replied and closed without reading all of the request. The rest goes nowhere.
    discards_writes: bool,
}

/// What the socket of a server has for its reader at this moment.
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

    /// Looks at the socket itself: its reactor may not have heard yet.
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

    /// Writes, and takes care of servers that close without reading all.
    fn write(
        &mut self,
        length: usize,
        write: impl FnOnce(Pin<&mut TcpStream>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        // A closed connection that may still take bytes must get none: whether they are read, nobody would know.
        if self.state.first_write.swap(false, Relaxed) && self.pending() == Pending::End {
            return Poll::Ready(Err(ErrorKind::ConnectionReset.into()));
        }
        if self.discards_writes {
            return Poll::Ready(Ok(length));
        }
        match write(Pin::new(&mut self.stream)) {
            // It has replied: hyper reads that once the rest of the request is out of the way, and would not after an error.
            Poll::Ready(Err(_)) if self.state.has_replied() || self.pending() == Pending::Bytes => {
                self.discards_writes = true;
                Poll::Ready(Ok(length))
            }
            written => written,
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
        }
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
