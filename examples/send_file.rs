// SPDX-License-Identifier: MIT OR Apache-2.0
//! send_file FILE HOST:PORT: sends a file over a connection and waits until the file may be changed
//! again.
//!
//! ```text
//! nc -l 127.0.0.1 9000 >copy &
//! cargo run --release --example send_file -- FILE 127.0.0.1:9000
//! ```

use snapsend::{Context, Options, Request};
use std::error::Error;
use std::fs::File;
use std::net::TcpStream;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(path), Some(address)) = (arguments.next(), arguments.next()) else {
        return Err("usage: send_file FILE HOST:PORT".into());
    };
    let file = File::open(path)?;
    let socket = TcpStream::connect(address)?;

    let context = Context::new(&Options::new())?;
    let sent = context.send(&Request::new(&socket).file(&file, ..))?.result()?;
    println!("{sent} bytes sent; the file may be changed now");
    Ok(())
}
