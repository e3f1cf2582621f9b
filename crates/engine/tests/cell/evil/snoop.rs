//! Reads whatever can be read.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::{misdeed, never};

/// Looks everywhere for what the test hid, and at each of its places.
pub fn snoop(places: &[String]) {
    // Put together here, so that it is not found in this program.
    let secret = ["CAN", "ARY-"].concat();
    let mut environment: Vec<String> = std::env::vars().map(|(name, value)| format!("{name}={value}")).collect();
    environment.sort();
    println!("environment {}", environment.join(" "));
    never("environment", environment.iter().any(|line| line.contains(&secret)));
    for place in places {
        misdeed(&format!("open {}", Path::new(place).file_name().unwrap().display()), fs::read(place));
    }
    for home in ["/root", "/var", "/srv", "/mnt", "/sys", "/boot", "/data", "/work", "/etc/shadow"] {
        never(home, Path::new(home).exists());
    }
    misdeed("list homes", fs::read_dir("/home"));
    misdeed("list everything", fs::read_dir("/"));
    let mut found = Vec::new();
    let mut files = 0;
    // What stands between them cannot even be listed.
    let mut folders = ["/", "/dev", "/etc", "/home", "/opt/agent", "/run", "/run/salon", "/tmp", "/workspace"]
        .map(PathBuf::from)
        .to_vec();
    folders.push(salon_engine::agent::HOME.into());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let (path, Ok(kind)) = (entry.path(), entry.file_type()) else { continue };
            // What every machine has is in `/usr`; processes have their own part below.
            if ["/usr", "/proc"].iter().any(|known| path == Path::new(known)) {
                continue;
            }
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() {
                files += 1;
                found.extend(holds(&path, &secret).then_some(path));
            }
        }
    }
    println!("read {files} files");
    never("whole file system", !found.is_empty());

    let own = std::process::id();
    let processes: Vec<u32> = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|process| *process != own)
        .collect();
    // The shim alone is there, and it is nobody's to look into.
    never("other processes", processes != [1]);
    for process in processes {
        for name in ["environ", "mem", "maps", "root", "cwd", "exe", "fd", "stack", "auxv"] {
            let path = PathBuf::from(format!("/proc/{process}/{name}"));
            let result = match name {
                "root" | "cwd" | "exe" => fs::read_link(path).map(drop),
                "fd" => fs::read_dir(path).map(drop),
                _ => fs::read(path).map(drop),
            };
            misdeed(&format!("/proc/{process}/{name}"), result);
        }
        let line = fs::read_to_string(format!("/proc/{process}/cmdline")).unwrap_or_default();
        never("its arguments", line.contains(&secret));
    }
    for file in ["/proc/kcore", "/proc/kmsg", "/proc/sysvipc/shm", "/proc/net/unix", "/proc/mounts", "/proc/keys"] {
        never(file, holds(Path::new(file), &secret));
    }
    let mine = fs::read_dir("/proc/self/fd").unwrap().flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    let strange: Vec<_> = mine.filter(|path| !path.starts_with("/proc") && !is_pipe(path)).collect();
    misdeed("open files that are nobody's", strange.first().ok_or("none"));
}

fn is_pipe(path: &Path) -> bool {
    path.to_str().is_some_and(|path| path.starts_with("pipe:") || path == "/dev/null")
}

fn holds(path: &Path, secret: &str) -> bool {
    let mut bytes = Vec::new();
    let Ok(file) = fs::File::open(path) else { return false };
    file.take(4 << 20).read_to_end(&mut bytes).ok();
    memchr::memmem::find(&bytes, secret.as_bytes()).is_some()
}
