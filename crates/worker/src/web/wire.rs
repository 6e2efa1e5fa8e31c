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
pub(super) struct Line {
    /// Whether the next bytes are the first of a request over a connection that was kept.
    begins: AtomicBool,
    /// Whether anything came since the request began.
    replied: AtomicBool,
}

impl Line {
    /// Notes that another request is sent.
    pub(super) fn begin(&self) {
        self.replied.store(false, Relaxed);
        self.begins.store(true, Relaxed);
    }

    /// Whether anything came since the last request began.
    pub(super) fn has_replied(&self) -> bool {
        self.replied.load(Relaxed)
    }
}

/// A socket.
pub(super) struct Wire {
    stream: TcpStream,
    line: Arc<Line>,
    /// Whether the server has replied and closed without reading all of the request. The rest goes nowhere.
    deaf: bool,
}

/// What the socket of a server has for its reader at this moment.
#[derive(PartialEq)]
enum Waits {
    Nothing,
    Bytes,
    End,
}

impl Wire {
    pub(super) fn new(stream: TcpStream, line: Arc<Line>) -> Self {
        Self {
            stream,
            line,
            deaf: false,
        }
    }

    /// Looks at the socket itself: its reactor may not have heard yet.
    fn waits(&self) -> Waits {
        let mut byte = [MaybeUninit::uninit(); 1];
        match SockRef::from(&self.stream).peek(&mut byte) {
            Ok(0) => Waits::End,
            Ok(_) => Waits::Bytes,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                Waits::Nothing
            }
            Err(_) => Waits::End,
        }
    }

    /// Writes, and takes care of servers that close without reading all.
    fn write(
        &mut self,
        length: usize,
        write: impl FnOnce(Pin<&mut TcpStream>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        // A closed connection that may still take bytes must get none: whether they are read, nobody would know.
        if self.line.begins.swap(false, Relaxed) && self.waits() == Waits::End {
            return Poll::Ready(Err(ErrorKind::ConnectionReset.into()));
        }
        if self.deaf {
            return Poll::Ready(Ok(length));
        }
        match write(Pin::new(&mut self.stream)) {
            // It has replied: hyper reads that once the rest of the request is out of the way, and would not after an error.
            Poll::Ready(Err(_)) if self.line.has_replied() || self.waits() == Waits::Bytes => {
                self.deaf = true;
                Poll::Ready(Ok(length))
            }
            written => written,
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.line.replied.store(true, Relaxed);
        }
        read
    }
}

impl AsyncWrite for Wire {
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
