// SPDX-License-Identifier: MIT OR Apache-2.0
//! tokio_file_server DIRECTORY [PORT]: an HTTP server with a task for each connection.
//!
//! ```text
//! cargo run --release --features futures --example tokio_file_server -- . 8080 &
//! curl http://127.0.0.1:8080/README.md
//! ```

use snapsend::futures::AsyncContext;
use snapsend::{Options, Request};
use std::fs::File;
use std::io::{self, Error, IoSlice};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Wakes the tasks whose operations have completed, for as long as the context is used.
async fn dispatch(context: Arc<AsyncContext>) -> io::Result<()> {
    // SAFETY: the context owns its descriptor, and neither closes nor replaces it.
    let descriptor = unsafe { AsyncFd::register(context) }?;
    loop {
        // In this order: dispatch() takes all that has come before.
        descriptor.readable().await?.clear_ready();
        descriptor.get_ref().dispatch()?;
    }
}

/// The file and its length; None: there is none, or it is outside.
fn open(root: &Path, path: &str) -> Option<(File, u64)> {
    let path = Path::new(path.strip_prefix('/')?);
    let is_inside = path.components().all(|part| matches!(part, Component::Normal(_)));
    let file = File::open(is_inside.then(|| root.join(path))?).ok()?;
    let facts = file.metadata().ok()?;
    facts.is_file().then_some((file, facts.len()))
}

async fn serve(context: &AsyncContext, socket: TcpStream, root: &Path) -> io::Result<()> {
    let mut reader = BufReader::new(socket);
    loop {
        let (mut line, mut header) = (String::new(), String::new());
        if reader.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        while reader.read_line(&mut header).await? > 2 {
            header.clear();
        }
        let file = open(root, line.split(' ').nth(1).unwrap_or(""));
        let (status, length) = match &file {
            Some((_, length)) => ("200 OK", *length),
            None => ("404 Not Found", 0),
        };
        let header = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n");
        let header = [IoSlice::new(header.as_bytes())];
        let mut request = Request::new(reader.get_ref()).header(&header);
        if let Some((file, length)) = &file {
            request = request.file(file, ..*length);
        }
        context.operation(request).await?.result()?;
    }
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let root = arguments.next().ok_or(Error::other("usage: tokio_file_server DIRECTORY [PORT]"))?;
    let root: Arc<Path> = PathBuf::from(root).into();
    let port = arguments.next().and_then(|port| port.parse().ok()).unwrap_or(0);
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on http://{}", listener.local_addr()?);
    let context = Arc::new(AsyncContext::new(&Options::new())?);
    tokio::spawn(dispatch(context.clone()));
    loop {
        let (connection, _) = listener.accept().await?;
        let (context, root) = (context.clone(), root.clone());
        tokio::spawn(async move { serve(&context, connection, &root).await });
    }
}
