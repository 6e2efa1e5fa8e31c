//! A socket with counters.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::connection::{Connection, ConnectionGuard};

/// A socket, with its connection's entry in the ledger.
#[derive(Debug)]
pub(crate) struct CountedStream {
    socket: TcpStream,
    guard: ConnectionGuard,
    /// Bytes that were read ahead.
    ahead: Bytes,
}

impl CountedStream {
    pub(crate) fn new(socket: TcpStream, guard: ConnectionGuard) -> Self {
        Self {
            socket,
            guard,
            ahead: Bytes::new(),
        }
    }

    /// Puts back bytes that were read too far.
    pub(crate) fn unread(&mut self, bytes: Bytes) {
        self.ahead = bytes;
    }

    fn connection(&self) -> &Arc<Connection> {
        self.guard.connection()
    }

    fn note(&self, written: &Poll<io::Result<usize>>) {
        match written {
            Poll::Ready(Ok(bytes)) => self.connection().sent(*bytes as u64),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.connection().blocked(),
        }
    }
}

impl AsyncRead for CountedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (before, offered) = (buffer.filled().len(), buffer.remaining());
        if !self.ahead.is_empty() {
            let length = self.ahead.len().min(offered);
            buffer.put_slice(&self.ahead.split_to(length));
            self.connection().received(length as u64, offered as u64);
            return Poll::Ready(Ok(()));
        }
        let read = Pin::new(&mut self.socket).poll_read(cx, buffer);
        if read.is_ready() {
            let bytes = buffer.filled().len() - before;
            self.connection().received(bytes as u64, offered as u64);
        }
        read
    }
}

impl AsyncWrite for CountedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.note(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, parts);
        self.note(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
