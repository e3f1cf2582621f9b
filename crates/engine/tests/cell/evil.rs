//! Who is in the cell.

use std::io::{BufRead as _, Write as _};
use std::process::ExitCode;

pub fn run(words: &[String]) -> ExitCode {
    match words.first().map(String::as_str) {
        Some("echo") => {
            for line in std::io::stdin().lock().lines() {
                println!("heard {}", line.unwrap());
            }
            eprintln!("that was all");
            ExitCode::from(words[1].parse::<u8>().unwrap())
        }
        Some("hello") => {
            println!("hello");
            ExitCode::SUCCESS
        }
        Some("wait") => {
            println!("waiting");
            loop {
                std::thread::park();
            }
        }
        Some("deaf") => {
            println!("waiting");
            std::io::stdout().flush().unwrap();
            loop {
                std::thread::park();
            }
        }
        _ => ExitCode::from(99),
    }
}
