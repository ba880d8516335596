// SPDX-License-Identifier: MIT OR Apache-2.0
//! file_server DIRECTORY [PORT]: an HTTP server whose answers one context sends, for all connections
//! at once.  Threads read requests; one thread takes completions.
//!
//! ```text
//! cargo run --release --example file_server -- . 8080 &
//! curl http://127.0.0.1:8080/README.md
//! ```

use snapsend::{Completion, Context, Errno, Event, Options, Request};
use std::collections::HashMap;
use std::error::Error;
use std::fs::File;
use std::io::{BufRead, BufReader, IoSlice};
use std::net::{TcpListener, TcpStream};
use std::path::{Component, Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;

/// Which connection's thread waits for an operation.
type Waiting = Mutex<HashMap<u64, Sender<Completion>>>;

struct Server {
    context: Context,
    root: PathBuf,
    waiting: Waiting,
}

impl Server {
    /// Takes completions for ever and hands each to the thread that waits for it.
    fn deliver(&self) -> Result<(), Errno> {
        let mut done = [Completion::default(); 64];
        loop {
            match self.context.poll(&mut done, None) {
                Ok(count) => {
                    let mut waiting = self.waiting.lock().expect("no thread panics with it");
                    for completion in done[..count].iter().filter(|done| done.event == Event::Done)
                    {
                        if let Some(thread) = waiting.remove(&completion.user_data) {
                            // It may have gone; then nobody is interested.
                            let _ = thread.send(*completion);
                        }
                    }
                }
                Err(Errno(libc::EINTR)) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn serve(&self, connection: &TcpStream, number: u64) -> Result<(), Box<dyn Error>> {
        let mut reader = BufReader::new(connection);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            loop {
                let mut header = String::new();
                if reader.read_line(&mut header)? == 0 || header == "\r\n" {
                    break;
                }
            }
            let path = line.split(' ').nth(1).unwrap_or("");
            self.answer(connection, number, path)?;
        }
    }

    fn answer(&self, socket: &TcpStream, number: u64, path: &str) -> Result<(), Box<dyn Error>> {
        let file = self.open(path);
        let (status, length) = match &file {
            Some((_, length)) => ("200 OK", *length),
            None => ("404 Not Found", 0),
        };
        let header = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n");
        let header = [IoSlice::new(header.as_bytes())];
        let mut request = Request::new(socket).header(&header).user_data(number);
        if let Some((file, length)) = &file {
            request = request.file(file, ..*length);
        }

        let (sender, receiver) = channel();
        self.waiting.lock().expect("no thread panics with it").insert(number, sender);
        if let Err(error) = self.context.submit(&request) {
            self.waiting.lock().expect("no thread panics with it").remove(&number);
            return Err(error.into());
        }
        // The file stays open until here.
        receiver.recv()?.result()?;
        Ok(())
    }

    fn open(&self, path: &str) -> Option<(File, u64)> {
        let path = Path::new(path.strip_prefix('/')?);
        if !path.components().all(|part| matches!(part, Component::Normal(_))) {
            return None;
        }
        let file = File::open(self.root.join(path)).ok()?;
        let facts = file.metadata().ok()?;
        facts.is_file().then_some((file, facts.len()))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let root = PathBuf::from(arguments.next().ok_or("usage: file_server DIRECTORY [PORT]")?);
    let port = arguments.next().map_or(Ok(0), |port| port.parse())?;
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    println!("listening on http://{}", listener.local_addr()?);

    let context = Context::new(&Options::new())?;
    let server = Arc::new(Server { context, root, waiting: Waiting::default() });
    let deliverer = server.clone();
    thread::spawn(move || {
        if let Err(error) = deliverer.deliver() {
            eprintln!("no more completions: {error}");
            std::process::exit(1);
        }
    });
    for (number, connection) in (0..).zip(listener.incoming()) {
        let (server, connection) = (server.clone(), connection?);
        thread::spawn(move || {
            if let Err(error) = server.serve(&connection, number) {
                eprintln!("{number}: {error}");
            }
        });
    }
    Ok(())
}
