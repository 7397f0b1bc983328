//! The client's entry point.

use std::process::ExitCode;

fn main() -> ExitCode {
    ciruela::client::main()
}
