//! A real PostgreSQL for the tests, in a scratch folder, gone when we are gone.
//!
//! A *watchman*, a small shell in a process group of its own, holds the other end of a pipe. When the
//! pipe closes, because we are done, failed, were interrupted or killed, it stops the server and
//! empties the folder. So no signal handler is needed, and nothing survives even a `kill -9`.

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::run::{self, program, read};

/// What the product supports, and the oldest that Debian 12 has.
const OLDEST: u32 = 15;

/// A running server; dropping it stops it and, unless it is to be kept, removes its folder.
pub struct Server {
    url: String,
    folder: PathBuf,
    keep: bool,
    watchman: Child,
}

impl Server {
    /// Where tests connect as the superuser, each to make a database of its own.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Closing the pipe is the signal; waiting makes sure that the port is free again.
        drop(self.watchman.stdin.take());
        let ended = self.watchman.wait();
        if self.keep {
            println!("PostgreSQL's folder is kept until the next run: {}", self.folder.display());
        } else if let Err(error) = ended.and_then(|_| fs::remove_dir_all(&self.folder)) {
            eprintln!("xtask: cannot remove {}: {error}", self.folder.display());
        }
    }
}

/// Makes a cluster in a fresh folder and starts it on a free port of 127.0.0.1.
pub fn start(keep: bool) -> Result<Server> {
    let bin = match find() {
        Some(bin) => bin,
        None => {
            run::install(&format!("PostgreSQL {OLDEST} or newer"), &["postgresql"])?;
            find().with_context(|| format!("the installed PostgreSQL is older than {OLDEST}"))?
        }
    };
    let marker = run::scratch().join("postgres");
    sweep(&bin, &marker)?;

    let owner = owner()?;
    let folder = make_folder(owner, &marker)?;
    let data = folder.join("data");
    let password = random_hex()?;
    let password_file = folder.join("password");
    fs::write(&password_file, &password)?;
    give(&password_file, owner)?;

    let mut initdb = program(bin.join("initdb"));
    initdb.args(["--username=postgres", "--encoding=UTF8", "--locale=C", "--no-instructions"]);
    // A password, because everyone on this machine can reach a port; in the clear, because nobody can
    // listen in on loopback and hashing it for each of some thousand connections would take its time.
    initdb
        .args(["--auth-local=trust", "--auth-host=password"])
        .arg("--pwfile")
        .arg(&password_file)
        .arg("-D")
        .arg(&data);
    read(quiet(&mut initdb, &folder, owner)).context("initdb failed")?;

    let mut watchman = program("sh");
    watchman.arg("-c").arg(WATCHMAN).arg("watchman").arg(bin.join("pg_ctl")).arg(&data).arg(&folder);
    watchman.arg(if keep { "keep" } else { "remove" }).process_group(0);
    quiet(&mut watchman, &folder, owner).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let watchman = watchman.spawn().context("cannot start the shell that looks after PostgreSQL")?;
    let mut server = Server { url: String::new(), folder, keep, watchman };

    // Between our look and the server's own bind somebody may take the port; then another is as good.
    let mut attempt = 1;
    let port = loop {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        match launch(&bin, &server.folder, port, owner) {
            Ok(()) => break port,
            Err(error) if attempt == 3 => {
                let log = fs::read_to_string(server.folder.join("log")).unwrap_or_default();
                return Err(error).with_context(|| format!("PostgreSQL does not start; its log:\n{log}"));
            }
            Err(_) => attempt += 1,
        }
    };
    server.url = format!("postgres://postgres:{password}@127.0.0.1:{port}/postgres");
    let version = read(program(bin.join("postgres")).arg("--version"))?;
    println!("{} on 127.0.0.1:{port}, in {}", version.trim(), server.folder.display());
    Ok(server)
}

/// Waits for the end of its input, then stops the server in `$2` and empties the folder `$3`.
const WATCHMAN: &str = r#"cat >/dev/null
"$1" -D "$2" -m immediate -w stop
[ "$4" = keep ] || rm -rf "$3"/*"#;

fn launch(bin: &Path, folder: &Path, port: u16, owner: Owner) -> Result<()> {
    let mut command = program(bin.join("pg_ctl"));
    command.arg("-D").arg(folder.join("data")).arg("-l").arg(folder.join("log")).args(["-w", "-t", "60"]);
    // Durability stays on: tests that kill things must meet the database that people run. The socket's
    // folder is named relative to the data, since a Unix socket's whole path may have 107 bytes only.
    let options = format!(
        "-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories=.. -c unix_socket_permissions=0700 \
         -c max_connections=200 -c fsync=on -c synchronous_commit=on"
    );
    command.arg("-o").arg(options).arg("start");
    read(quiet(&mut command, folder, owner).stdin(Stdio::null())).map(drop)
}

/// Finds the newest usable set of PostgreSQL programs.
fn find() -> Option<PathBuf> {
    let asked = run::on_path("pg_config").and_then(|file| read(program(file).arg("--bindir")).ok());
    let debian =
        fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path().join("bin"));
    let path = run::on_path("postgres").and_then(|file| Some(file.parent()?.to_path_buf()));
    let folders = asked.map(|text| PathBuf::from(text.trim())).into_iter().chain(debian).chain(path);
    let versions = folders.filter_map(|bin| {
        let complete = ["initdb", "pg_ctl", "postgres"].iter().all(|name| run::is_program(&bin.join(name)));
        let version = complete.then(|| read(program(bin.join("postgres")).arg("--version")).ok()).flatten()?;
        Some((major(&version)?, bin))
    });
    newest(versions)
}

fn newest(versions: impl Iterator<Item = (u32, PathBuf)>) -> Option<PathBuf> {
    versions.filter(|(major, _)| *major >= OLDEST).max_by_key(|(major, _)| *major).map(|(_, bin)| bin)
}

/// The 15 of "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", and of "17beta2".
fn major(version: &str) -> Option<u32> {
    let number = version.split_once("(PostgreSQL) ")?.1;
    let end = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
    number[..end].parse().ok()
}

/// Stops and removes what a run left behind whose watchman was killed with it, or that was kept.
fn sweep(bin: &Path, marker: &Path) -> Result<()> {
    let Ok(folder) = fs::read_to_string(marker) else { return Ok(()) };
    let folder = PathBuf::from(folder);
    let data = folder.join("data");
    if let Ok(meta) = folder.metadata() {
        if let Some(pid) = fs::read_to_string(data.join("postmaster.pid")).ok().and_then(|text| first_number(&text)) {
            // The number may belong to another program by now: ask whose it is before stopping it.
            if command_line(pid).contains(&*data.to_string_lossy()) {
                println!("stopping the PostgreSQL that an earlier run left behind (process {pid})");
                let mut stop = program(bin.join("pg_ctl"));
                stop.arg("-D").arg(&data).args(["-m", "immediate", "-w", "stop"]);
                let owner = run::is_root()?.then_some((meta.uid(), meta.gid()));
                read(quiet(&mut stop, &folder, owner)).context("cannot stop an earlier PostgreSQL")?;
            }
        }
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    Ok(fs::remove_file(marker)?)
}

fn first_number(text: &str) -> Option<u32> {
    text.lines().next()?.trim().parse().ok()
}

fn command_line(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/cmdline"))
        .or_else(|_| read(program("ps").args(["-o", "command=", "-p", &pid.to_string()])))
        .unwrap_or_default()
}

/// The user and group to run the server as; none when that is simply us.
type Owner = Option<(u32, u32)>;

/// PostgreSQL refuses to be run by root, so root lends it to somebody harmless.
fn owner() -> Result<Owner> {
    if !run::is_root()? {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd")?;
    let owner = find_user(&users, "postgres").or_else(|| find_user(&users, "nobody"));
    Ok(Some(owner.context("neither `postgres` nor `nobody` is a user here, and root may not run PostgreSQL")?))
}

fn find_user(passwd: &str, name: &str) -> Option<(u32, u32)> {
    let fields = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields[0] == name)?;
    Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
}

/// Makes the private folder, under `target/` if its owner can reach that, and writes down where it is.
fn make_folder(owner: Owner, marker: &Path) -> Result<PathBuf> {
    let name = format!("salon-postgres-{}", random_hex()?);
    for parent in [run::scratch(), std::env::temp_dir()] {
        let folder = parent.join(&name);
        // First the note, then the folder: whatever happens in between, the next run knows where to sweep.
        fs::write(marker, folder.as_os_str().as_encoded_bytes())?;
        fs::DirBuilder::new().mode(0o700).create(&folder)?;
        give(&folder, owner)?;
        let mut probe = program("true");
        if read(quiet(&mut probe, &folder, owner)).is_ok() {
            return Ok(folder);
        }
        fs::remove_dir(&folder)?;
    }
    bail!("PostgreSQL's user can reach neither target/ nor the folder for temporary files")
}

fn give(path: &Path, owner: Owner) -> Result<()> {
    let (uid, gid) = owner.unzip();
    Ok(chown(path, uid, gid)?)
}

/// Lets a command run in the scratch folder, as its owner.
fn quiet<'a>(command: &'a mut Command, folder: &Path, owner: Owner) -> &'a mut Command {
    if let Some((uid, gid)) = owner {
        command.uid(uid).gid(gid);
    }
    command.current_dir(folder)
}

fn random_hex() -> Result<String> {
    let mut bytes = [0; 12];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read_from_what_postgres_prints() {
        assert_eq!(major("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(major("postgres (PostgreSQL) 17beta2\n"), Some(17));
        assert_eq!(major("postgres (PostgreSQL) 16\n"), Some(16));
        assert_eq!(major("postgres (PostgreSQL) devel"), None);
        assert_eq!(major("mysqld 8.4"), None);
    }

    #[test]
    fn the_newest_version_wins_and_old_ones_are_not_considered() {
        let folders = |list: &[u32]| list.iter().map(|n| (*n, PathBuf::from(n.to_string()))).collect::<Vec<_>>();
        assert_eq!(newest(folders(&[9, 15, 17, 16]).into_iter()), Some(PathBuf::from("17")));
        assert_eq!(newest(folders(&[14, 9]).into_iter()), None);
    }

    #[test]
    fn users_are_found_by_their_whole_name() {
        let passwd =
            "root:x:0:0:root:/root:/bin/sh\npostgres2:x:7:7::/:\npostgres:x:101:104:,,,:/var:/bin/sh\nbad:x:a:b\n";
        assert_eq!(find_user(passwd, "postgres"), Some((101, 104)));
        assert_eq!(find_user(passwd, "post"), None);
        assert_eq!(find_user(passwd, "bad"), None);
    }

    #[test]
    fn a_process_is_known_by_its_command_line() {
        assert!(command_line(std::process::id()).contains("xtask"));
        assert_eq!(first_number("4711\n/data\n"), Some(4711));
        assert_eq!(first_number(""), None);
    }
}
