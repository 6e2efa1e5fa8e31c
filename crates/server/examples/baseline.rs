//! The baseline of the benchmarks: an axum server that does nothing but answer.
#![expect(clippy::print_stdout, reason = "it prints its address")]

use axum::Router;
use axum::routing::any;
use axum::serve::ListenerExt;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let listener = listener.tap_io(|stream| {
        // A socket that refuses this is slower and no less right.
        let _ = stream.set_nodelay(true);
    });
    let answer = |_body: axum::body::Bytes| async { r#"{"hello":"world"}"# };
    axum::serve(listener, Router::new().fallback(any(answer))).await
}
