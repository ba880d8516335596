// SPDX-License-Identifier: MIT OR Apache-2.0
//! smol_send_file FILE HOST:PORT: sends a file over a connection, and reports when the file may be
//! changed and when all is sent.
//!
//! ```text
//! nc -l 127.0.0.1 9000 >copy &
//! cargo run --release --features futures --example smol_send_file -- FILE 127.0.0.1:9000
//! ```

use smol::Async;
use smol::net::TcpStream;
use snapsend::futures::AsyncContext;
use snapsend::{Options, Request, RequestFlags};
use std::error::Error;
use std::fs::File;
use std::io;
use std::sync::Arc;

/// Wakes the tasks whose operations have completed, for as long as the context is used.
async fn dispatch(context: Arc<AsyncContext>) -> io::Result<()> {
    let descriptor = Async::new_nonblocking(context)?;
    loop {
        descriptor.readable().await?;
        descriptor.get_ref().dispatch()?;
    }
}

async fn send(context: &AsyncContext, path: &str, address: &str) -> io::Result<u64> {
    let file = File::open(path)?;
    let socket = TcpStream::connect(address).await?;
    // EAGER: the file is read at the disk's pace, not the peer's, if it fits into the pool.
    let flags = RequestFlags::EAGER | RequestFlags::NOTIFY_SNAPSHOT;
    let mut sending = context.operation(Request::new(&socket).file(&file, ..).flags(flags));
    sending.snapshot().await?;
    println!("the file may be changed now");
    sending.await?.result()
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(path), Some(address)) = (arguments.next(), arguments.next()) else {
        return Err("usage: smol_send_file FILE HOST:PORT".into());
    };
    smol::block_on(async {
        let context = Arc::new(AsyncContext::new(&Options::new())?);
        let dispatcher = smol::spawn(dispatch(context.clone()));
        let sent = send(&context, &path, &address).await?;
        dispatcher.cancel().await;
        println!("{sent} bytes sent");
        Ok(())
    })
}
