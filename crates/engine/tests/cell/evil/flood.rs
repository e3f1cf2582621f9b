//! Takes as much as it can of something.

use std::fs;
use std::io::Write as _;
use std::time::Duration;

use super::program;

pub fn flood(what: &str, rest: &[String]) {
    match what {
        "forks" => forks(rest),
        "threads" => {
            let mut count = 0;
            while std::thread::Builder::new()
                .stack_size(64 << 10)
                .spawn(|| std::thread::sleep(Duration::from_secs(60)))
                .is_ok()
            {
                count += 1;
            }
            println!("{count} threads");
        }
        "memory" => {
            println!("taking");
            let mut taken: Vec<Vec<u8>> = Vec::new();
            loop {
                taken.push(vec![1; 16 << 20]);
            }
        }
        "large" => {
            let mut space: Vec<u8> = Vec::new();
            println!("{}", if space.try_reserve(1 << 40).is_ok() { "BROKE a terabyte" } else { "held a terabyte" });
        }
        "shared" => {
            println!("taking");
            let chunk = vec![1; 1 << 20];
            let mut full = 0;
            for at in 0.. {
                let (folder, name) = (["/dev/shm", "/tmp"][at % 2], format!("{at}"));
                full = if fs::write(format!("{folder}/{name}"), &chunk).is_err() { full + 1 } else { 0 };
                if full > 8 {
                    println!("full after {at}");
                    break;
                }
            }
        }
        "cpu" => {
            for _ in 0..32 {
                std::thread::spawn(|| {
                    loop {
                        std::hint::spin_loop();
                    }
                });
            }
            println!("burning");
            std::thread::sleep(Duration::from_secs(60));
        }
        "disk" => {
            println!("writing");
            let chunk = vec![7; 1 << 20];
            for at in 0.. {
                let Ok(mut file) = fs::File::create(format!("/workspace/{at}")) else { continue };
                // Small enough for each of them, and too much together.
                (0..4).take_while(|_| file.write_all(&chunk).is_ok()).count();
            }
        }
        "file" => {
            let mut file = fs::File::create("/workspace/one").unwrap();
            // The signal that comes with the limit would end us, and is caught by nobody here.
            let chunk = vec![7; 1 << 20];
            while file.write_all(&chunk).is_ok() {}
            println!("at {}", file.metadata().unwrap().len());
        }
        "names" => {
            println!("writing");
            for at in 0.. {
                fs::create_dir_all(format!("/workspace/{}/{at}", at % 100)).ok();
            }
        }
        "files" => {
            let mut open = Vec::new();
            while let Ok(file) = fs::File::open("/dev/null") {
                open.push(file);
            }
            println!("{} files", open.len());
        }
        "lines" => loop {
            if std::io::stdout().write_all(b"y\n").is_err() {
                return;
            }
        },
        "line" => {
            std::io::stdout().write_all(&vec![b'x'; 10 << 20]).unwrap();
            println!("\nafter");
        }
        "errors" => {
            for at in 0..200_000 {
                eprintln!("trouble number {at}");
            }
            println!("done");
        }
        "bytes" => {
            std::io::stdout().write_all(b"a\xff\xfe\x00\x1b]52;c;x\x07b\n\xed\xa0\x80\n").unwrap();
        }
        _ => println!("BROKE nothing: there is no such misdeed"),
    }
}

/// Each makes more of itself. Nobody would stop it outside of a cell, so there it does not begin; and even where walls
/// failed, it would be eight to the third.
fn forks(rest: &[String]) {
    assert!(std::path::Path::new("/run/salon/shim").exists(), "this is no cell");
    let own = std::env::current_exe().unwrap();
    let generation: u32 = rest.get(1).map_or(0, |word| word.parse().unwrap());
    if generation < 3 {
        for _ in 0..8 {
            let next = (generation + 1).to_string();
            // A child that is not waited for stays.
            program(own.to_str().unwrap(), &["evil", "forks", &rest[0], &next]).spawn().ok();
        }
    }
    let begun = tokio::time::Instant::now();
    while begun.elapsed() < Duration::from_secs(20) {
        if generation == 3 {
            std::hint::spin_loop();
        } else {
            // Whoever ended makes room for another.
            program("/usr/bin/true", &[]).spawn().ok();
        }
    }
}
