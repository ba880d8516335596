// SPDX-License-Identifier: MIT OR Apache-2.0
//! snapsend-info: reports what snapsend can use on this machine, as text or JSON.

mod machine;
mod probe;
mod text;

use lexopt::prelude::*;
use serde::Serialize;
use std::io::Write;
use std::process::ExitCode;

const USAGE: &str = "\
usage: snapsend-info [--json] [--socket HOST:PORT]

Reports what snapsend can use on this machine: the engine, kernel features, limits, and whether the
library for unmodified binaries can be loaded.

  --socket HOST:PORT  connects, sends 8 MiB of zeros, and reports whether they were sent without a
                      copy; the peer must read them, and should be on another machine
  --json              prints one JSON object
  --version           prints the version
  --help              prints this text
";

/// The whole report.
#[derive(Serialize)]
struct Report {
    version: &'static str,
    kernel: String,
    architecture: String,
    page_size: usize,
    library: machine::Library,
    locked_memory: machine::LockedMemory,
    open_files: machine::OpenFiles,
    preload: machine::Preload,
    #[serde(skip_serializing_if = "Option::is_none")]
    socket: Option<probe::Sent>,
}

struct Arguments {
    json: bool,
    socket: Option<String>,
}

/// Parses the command line.  None: --version or --help has been printed.
fn arguments() -> Result<Option<Arguments>, lexopt::Error> {
    let mut arguments = Arguments { json: false, socket: None };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("json") => arguments.json = true,
            Long("socket") => arguments.socket = Some(parser.value()?.string()?),
            Long("version") => {
                print(&format!("snapsend-info {}\n", env!("CARGO_PKG_VERSION")));
                return Ok(None);
            }
            Short('h') | Long("help") => {
                print(USAGE);
                return Ok(None);
            }
            other => return Err(other.unexpected()),
        }
    }
    Ok(Some(arguments))
}

/// Prints to standard output.  A reader that has exited, such as `head`, is not an error.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(Some(arguments)) => arguments,
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("snapsend-info: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let report = Report::new(arguments.socket.as_deref());
    if arguments.json {
        match serde_json::to_string_pretty(&report) {
            Ok(json) => print(&(json + "\n")),
            Err(error) => eprintln!("snapsend-info: cannot write JSON: {error}"),
        }
    } else {
        print(&text::of(&report));
    }
    let works = report.library.error.is_none()
        && report.socket.as_ref().is_none_or(|socket| socket.error.is_none());
    ExitCode::from(u8::from(!works))
}

impl Report {
    fn new(socket: Option<&str>) -> Report {
        let system = rustix::system::uname();
        Report {
            version: env!("CARGO_PKG_VERSION"),
            kernel: system.release().to_string_lossy().into_owned(),
            architecture: system.machine().to_string_lossy().into_owned(),
            page_size: rustix::param::page_size(),
            library: machine::Library::look(),
            locked_memory: machine::LockedMemory::look(),
            open_files: machine::OpenFiles::look(),
            preload: machine::Preload::look(),
            socket: socket.map(probe::send_to),
        }
    }
}
