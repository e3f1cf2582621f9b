//! Changes what is not its own, and climbs over walls.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use rustix::process::{Pid, Signal};

use super::{misdeed, never, program};

/// Calls of the kernel by their numbers on x86-64, as perl takes them: perl is part of every Debian, and our own code
/// cannot make such calls.
const CALLS: &[(&str, &str)] = &[
    ("ptrace the shim", "101, 16, 1, 0, 0"),
    ("seize the shim", "101, 16902, 1, 0, 0"),
    ("read the shim's memory", "310, 1, $iov, 1, $iov, 1, 0"),
    ("write the shim's memory", "311, 1, $iov, 1, $iov, 1, 0"),
    ("take the shim's files", "438, $pidfd, 0, 0"),
    ("a namespace for users", "272, 0x10000000"),
    ("a namespace for mounts", "272, 0x00020000"),
    ("a namespace for processes", "272, 0x20000000"),
    ("a namespace for the network", "272, 0x40000000"),
    ("a namespace for time", "272, 0x80"),
    ("clone into a namespace for users", "56, 0x10000011, 0, 0, 0, 0"),
    ("clone3", "435, $iov, 64"),
    ("join a namespace", "308, $pidfd, 0x20000000"),
    ("mount", "165, $tmp, $tmp, $tmpfs, 0, 0"),
    ("remount the root", "165, $root, $root, $tmpfs, 32, 0"),
    ("unmount", "166, $masked, 2"),
    ("chroot", "161, $tmp"),
    ("pivot_root", "155, $tmp, $tmp"),
    ("open_tree", "428, -100, $root, 1"),
    ("fsopen", "430, $tmpfs, 0"),
    ("move_mount", "429, -100, $tmp, -100, $tmp, 0"),
    ("mount_setattr", "442, -100, $root, 0, $iov, 32"),
    ("a socket to the machine's host", "41, 40, 1, 0"),
    ("a packet socket", "41, 17, 3, 768"),
    ("a raw socket", "41, 2, 3, 1"),
    ("the kernel's ciphers", "41, 38, 5, 0"),
    ("audit", "41, 16, 3, 9"),
    ("a bluetooth socket", "41, 31, 3, 0"),
    ("bpf", "321, 0, $iov, 48"),
    ("perf_event_open", "298, $iov, 0, -1, -1, 0"),
    ("userfaultfd", "323, 0"),
    ("io_uring", "425, 8, $iov"),
    ("keyctl", "250, 0, -3, 1"),
    ("add_key", "248, $user, $user, $user, 4, -3"),
    ("request_key", "249, $user, $user, 0, -3"),
    ("memory without a file", "319, $user, 0"),
    ("a lot of shared memory", "29, 0, 1048576, 950"),
    ("open_by_handle_at", "304, -100, $iov, 0"),
    ("name_to_handle_at", "303, -100, $root, $iov, $iov, 0"),
    ("load a module", "175, $iov, 8, $user"),
    ("delete a module", "176, $user, 0"),
    ("kexec", "246, 0, 0, $iov, 0"),
    ("reboot", "169, 0xfee1dead, 672274793, 0x89abcdef, 0"),
    ("swap", "167, $tmp, 0"),
    ("the kernel's log", "103, 3, $iov, 64"),
    ("the clock", "227, 0, $iov"),
    ("the host's name", "170, $user, 4"),
    ("another user", "105, 0"),
    ("another group", "106, 0"),
    ("more groups", "116, 1, $iov"),
    ("capabilities", "126, $cap, $caps"),
    ("ports of the machine", "172, 3"),
    ("accounting", "163, 0"),
    ("a higher limit", "302, 0, 7, $limit, 0"),
    ("a better priority", "141, 0, 0, -10"),
    ("type on a terminal", "16, 0, 0x5412, $user"),
    ("fanotify", "300, 0, 0"),
    ("a device", "133, $device, 0020666, 261"),
    ("compare with the shim", "312, 1, 1, 0, 0, 0"),
];

/// `places`: files of the host.
pub fn outside(places: &[String]) {
    for folder in [
        "/",
        "/etc",
        "/usr",
        "/usr/bin",
        "/usr/local/bin",
        "/bin",
        "/run",
        "/run/salon",
        "/opt",
        "/opt/agent",
        "/dev",
        "/home",
        "/proc",
    ] {
        misdeed(&format!("write into {folder}"), fs::write(Path::new(folder).join("pwned"), "x"));
    }
    let own = std::env::current_exe().unwrap();
    let files = [
        own.to_str().unwrap(),
        "/proc/self/exe",
        "/run/salon/shim",
        "/etc/passwd",
        "/etc/hosts",
        "/usr/bin/env",
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/hostname",
        "/proc/sysrq-trigger",
        "/proc/1/mem",
        "/proc/1/oom_score_adj",
        "/proc/self/oom_score_adj",
        "/proc/self/uid_map",
        "/proc/self/setgroups",
        "/sys/kernel/uevent_helper",
        "/dev/mem",
        "/dev/kmsg",
        "/dev/sda",
        "/dev/vda",
        "/dev/fuse",
        "/dev/kvm",
        "/dev/vsock",
    ];
    for file in files.into_iter().chain(places.iter().map(String::as_str)) {
        let opened = OpenOptions::new().append(true).open(file).and_then(|mut file| file.write_all(b"x"));
        misdeed(&format!("write to {}", file.rsplit('/').next().unwrap()), opened);
    }
    for place in places {
        misdeed("remove a file of the host", fs::remove_file(place));
        misdeed("a hard link to the host", fs::hard_link(place, "/workspace/hard"));
        symlink(place, "/workspace/link").unwrap();
        misdeed("a link to the host", fs::read("/workspace/link"));
        fs::remove_file("/workspace/link").unwrap();
    }
    misdeed("a hard link to the shim", fs::hard_link("/run/salon/shim", "/workspace/hard"));
    misdeed("a hard link to a program", fs::hard_link(&own, "/workspace/hard"));
    misdeed(
        "make a program root's",
        fs::copy("/usr/bin/env", "/workspace/env").and_then(|_| {
            fs::set_permissions("/workspace/env", fs::Permissions::from_mode(0o4755))?;
            std::os::unix::fs::chown("/workspace/env", Some(0), Some(0))
        }),
    );
    fs::remove_file("/workspace/env").ok();
    for name in [".claude", ".codex", ".mcp.json", ".env", ".git"] {
        let path = Path::new("/workspace").join(name);
        misdeed(&format!("rename {name}"), fs::rename(&path, "/workspace/away"));
        misdeed(&format!("remove {name}"), fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path)));
    }
    for name in
        [".claude/settings.json", ".codex/config.toml", ".mcp.json", ".env", ".git/hooks/pre-commit", ".git/config"]
    {
        misdeed(&format!("write {name}"), fs::write(Path::new("/workspace").join(name), "touch /workspace/PWNED"));
    }
    for name in [".claude/settings.json", ".mcp.json", ".env"] {
        let text = fs::read_to_string(Path::new("/workspace").join(name)).unwrap_or_default();
        never(&format!("read {name}"), !text.is_empty());
    }
    fs::write("/workspace/.git/HEAD", "ref: refs/heads/ours\n").unwrap();
    for (name, args) in [
        ("sudo", &["-n", "true"][..]),
        ("su", &["-c", "true"]),
        ("mount", &["-t", "tmpfs", "x", "/tmp"]),
        ("unshare", &["-Ur", "true"]),
        ("nsenter", &["-t", "1", "-a", "true"]),
        ("chroot", &["/tmp", "true"]),
        ("ping", &["-c1", "-W1", "1.1.1.1"]),
        ("newgrp", &["root"]),
        ("dmesg", &[]),
        ("chsh", &["-s", "/bin/sh"]),
        ("passwd", &["-d", "agent"]),
        ("bwrap", &["--ro-bind", "/", "/", "true"]),
    ] {
        let ran = program(&format!("/usr/bin/{name}"), args)
            .status()
            .or_else(|_| program(&format!("/usr/sbin/{name}"), args).status());
        never(&format!("the program {name}"), ran.is_ok_and(|status| status.success()));
    }
    let status = fs::read_to_string("/proc/self/status").unwrap();
    for (name, value) in
        [("NoNewPrivs", "1"), ("Seccomp", "2"), ("CapEff", "0000000000000000"), ("CapPrm", "0000000000000000")]
    {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        never(name, line.trim_start_matches(':').trim() != value);
    }
    if cfg!(target_arch = "x86_64") {
        calls();
    } else {
        println!("not tried: calls by their numbers, which are known for x86-64 only");
    }
}

fn calls() {
    let mut script = String::from(
        "my $b = 'x' x 4096; my $p = unpack('Q', pack('P', $b)); my $iov = pack('QQ', $p, 64) . (\"\\0\" x 64);\n\
         my $tmp = \"/tmp\\0\"; my $root = \"/\\0\"; my $tmpfs = \"tmpfs\\0\"; my $user = \"user\\0\"; my $masked = \"/workspace/.claude\\0\";\n\
         my $device = \"/workspace/device\\0\"; my $limit = pack('QQ', 1 << 20, 1 << 20);\n\
         my $cap = pack('LL', 0x20080522, 0); my $caps = pack('LLLLLL', (0xffffffff) x 6);\n\
         my $pidfd = syscall(434, 1, 0); $| = 1;\n",
    );
    for (name, call) in CALLS {
        // A call that made a second process of us must not have it try the rest, too.
        script.push_str(&format!(
            "{{ my $me = $$; my $r = syscall({call}); exit if $$ != $me; \
             print $r == -1 ? qq(held call {name}\\n) : qq(BROKE call {name}: $r\\n); }}\n"
        ));
    }
    let output = program("/usr/bin/perl", &["-e", &script]).stdout(std::process::Stdio::piped()).output().unwrap();
    print!("{}", String::from_utf8_lossy(&output.stdout));
    never("a call that ended the attempt", !output.status.success());
}

/// Signals everybody.
pub fn signals() {
    let own = rustix::process::getpid();
    misdeed(
        "end the shim",
        rustix::process::kill_process(Pid::INIT, Signal::KILL).and_then(|()| {
            // The kernel may say yes and do nothing, as a first process is owed.
            std::thread::sleep(std::time::Duration::from_millis(50));
            if Path::new("/proc/1").exists() { Err(rustix::io::Errno::PERM) } else { Ok(()) }
        }),
    );
    misdeed(
        "stop the shim",
        rustix::process::kill_process(Pid::INIT, Signal::STOP).and_then(|()| {
            let state = fs::read_to_string("/proc/1/stat").unwrap_or_default();
            if state.contains(") T ") { Ok(()) } else { Err(rustix::io::Errno::PERM) }
        }),
    );
    // The shim's thread that started us ends about now. Its number is the shim's, whom nothing of ours can hurt.
    std::thread::sleep(std::time::Duration::from_millis(500));
    let mut reached = 0;
    for process in (2..70_000).filter_map(Pid::from_raw).filter(|process| *process != own) {
        reached += usize::from(rustix::process::kill_process(process, Signal::KILL).is_ok());
    }
    never("signal somebody", reached > 0);
    println!("still here");
}

/// Leaves things in the out folder that are not what they seem. `secret`: a file of the host.
pub fn artifacts(secret: &str) {
    let out = Path::new("/workspace/out");
    fs::write(out.join("report.txt"), "all is well\n").unwrap();
    fs::create_dir_all(out.join("deep/er")).unwrap();
    fs::write(out.join("deep/er/picture.png"), b"\x89PNG\r\n\x1a\n....").unwrap();
    symlink(secret, out.join("stolen")).unwrap();
    symlink("/etc/passwd", out.join("passwd")).unwrap();
    symlink("/", out.join("everything")).unwrap();
    fs::write("/home/agent/private", "kept at home").unwrap();
    let hard = fs::hard_link("/home/agent/private", out.join("hard"));
    println!("hard link {}", hard.is_ok());
    rustix::fs::mknodat(rustix::fs::CWD, out.join("pipe"), rustix::fs::FileType::Fifo, 0o666.into(), 0).unwrap();
    drop(std::os::unix::net::UnixListener::bind(out.join("socket")).unwrap());
    let large = fs::File::create(out.join("large")).unwrap();
    large.set_len(200 << 20).unwrap();
    println!("left");
}
