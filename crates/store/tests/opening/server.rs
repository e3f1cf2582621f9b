//! A PostgreSQL of a test's own, to be stopped and started.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use salon_store::testing::postgres_database;
use sqlx::{Connection, PgConnection, Row};
use tempfile::TempDir;

use crate::child;

pub struct Server {
    pub url: String,
    programs: PathBuf,
    folder: TempDir,
    port: u16,
    /// Who the server runs as, if we are root, whom it refuses.
    owner: Option<(u32, u32)>,
    watchman: Child,
}

/// Waits until the test has ended in whatever way, then stops the server and empties its folder.
const WATCHMAN: &str = r#"cat >/dev/null; "$1" -D "$2/data" -m immediate -w stop; rm -rf "$2"/*"#;

impl Server {
    /// A fresh, running server. Its programs are those of the server that all tests share.
    pub async fn start_new() -> Server {
        let mut shared = PgConnection::connect(&postgres_database().await).await.expect("the shared PostgreSQL");
        let row = sqlx::query("SELECT setting FROM pg_config WHERE name = 'BINDIR'").fetch_one(&mut shared).await;
        let programs = PathBuf::from(row.expect("a superuser may ask").get::<String, _>(0));

        let folder = tempfile::tempdir().expect("a folder");
        let owner = child::is_root().then(unprivileged);
        if let Some((user, group)) = owner {
            chown(folder.path(), Some(user), Some(group)).expect("root may give away");
        }
        let mut watchman = child::program_of("sh");
        watchman.args(["-c", WATCHMAN, "watchman"]).arg(programs.join("pg_ctl")).arg(folder.path());
        watchman.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let watchman = as_owner(&mut watchman, owner).spawn().expect("a shell");

        let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its number").port();
        let url = format!("postgres://postgres@127.0.0.1:{port}/postgres");
        let server = Server { url, programs, folder, port, owner, watchman };
        let data = server.folder.path().join("data");
        let mut initdb = server.program("initdb");
        initdb
            .args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "-D"])
            .arg(data);
        child::run(initdb);
        server.start();
        server
    }

    pub fn start(&self) {
        let mut command = self.pg_ctl();
        // The machine stays on, so what the server gave to the kernel is safe, and fsync would only take its time.
        let options = format!(
            "-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories=.. -c fsync=off -c max_connections=100",
            self.port
        );
        command.arg("-l").arg(self.folder.path().join("log")).args(["-w", "-t", "60", "-o", &options, "start"]);
        child::run(command);
    }

    /// As a power cut would stop it, but for the disk.
    pub fn stop_immediately(&self) {
        let mut command = self.pg_ctl();
        command.args(["-m", "immediate", "-w", "stop"]);
        child::run(command);
    }

    fn pg_ctl(&self) -> Command {
        let mut command = self.program("pg_ctl");
        command.arg("-D").arg(self.folder.path().join("data"));
        command
    }

    fn program(&self, name: &str) -> Command {
        let mut command = child::program_of(self.programs.join(name).to_str().expect("text"));
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        as_owner(&mut command, self.owner);
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.watchman.stdin.take());
        self.watchman.wait().ok();
    }
}

fn as_owner(command: &mut Command, owner: Option<(u32, u32)>) -> &mut Command {
    match owner {
        Some((user, group)) => command.gid(group).uid(user),
        None => command,
    }
}

/// Somebody harmless.
fn unprivileged() -> (u32, u32) {
    let users = fs::read_to_string("/etc/passwd").expect("a list of users");
    let find = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut numbers = line.split(':').skip(2).map_while(|field| field.parse().ok());
        Some((numbers.next()?, numbers.next()?))
    };
    find("postgres").or_else(|| find("nobody")).expect("`postgres` or `nobody` is a user here")
}
