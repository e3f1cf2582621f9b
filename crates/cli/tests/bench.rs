//! The bench, as a process, with so little to do that it takes seconds. What it measures is not looked at: only that it
//! runs through, and says all that it is to say.

use std::process::Stdio;

#[test]
fn the_bench_of_the_relay_runs_through_and_prints_all_its_rows() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    #[expect(clippy::disallowed_methods, reason = "this test is about the program as a process")]
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_salon"));
    command.args(["bench", "relay", "--data", "bench", "--rounds", "1", "--at-once", "4", "--calls", "20"]);
    command.args(["--streams", "8", "--chunks", "5", "--long-calls", "8", "--idle", "10", "--many", "20"]);
    let output = command.current_dir(&folder).env_clear().stdin(Stdio::null()).output().expect("the program starts");
    let said = String::from_utf8(output.stdout).expect("text");
    let trouble = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{trouble}");
    assert_eq!(trouble, "", "a call that Salon found odd would cost more than the usual one");
    let numbers = |line: &str| line.split_whitespace().filter(|word| word.parse::<f64>().is_ok()).count();
    for kind in ["call", "stream", "64 KiB prompt"] {
        for side in ["proxy", "relay", "relay, three limits"] {
            let row = said.lines().find(|line| line.starts_with(&format!("{kind}: {side}  ")));
            let row = row.unwrap_or_else(|| panic!("no row for {kind}: {side} in\n{said}"));
            assert_eq!(numbers(row.split_once(side).expect("a side").1), 7, "{row}");
        }
    }
    for (beginning, sides) in [
        ("64 KiB prompt to a short one: ", &["proxy", "relay", "relay, three limits"][..]),
        ("longest gap (ms), sent at 20: ", &["proxy", "relay", "relay, three limits"]),
        ("KiB for each of 10 idle streams: ", &["proxy", "relay"]),
        ("MiB resident during 20 calls: ", &["relay", "relay, three limits"]),
    ] {
        for side in sides {
            let row = said.lines().find(|line| line.starts_with(&format!("{beginning}{side}  ")));
            assert!(row.is_some_and(|row| numbers(&row[beginning.len()..]) > 0), "{beginning}{side} in\n{said}");
        }
    }
}

#[test]
fn the_bench_of_events_runs_through_and_prints_both_rows() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    #[expect(clippy::disallowed_methods, reason = "this test is about the program as a process")]
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_salon"));
    command.args(["bench", "events", "--data", "bench", "--rounds", "1", "--lines", "8", "--pause-ms", "20"]);
    command.current_dir(&folder).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    if std::env::var_os("SALON_NO_BWRAP").is_some() {
        command.env("SALON_SANDBOX", "none");
    }
    let output = command.stdin(Stdio::null()).output().expect("the program starts");
    let said = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    for beginning in ["to the stream of a program", "to the chat, one edit a second"] {
        let row = said.lines().find_map(|line| line.strip_prefix(beginning));
        let row = row.unwrap_or_else(|| panic!("no row {beginning} in\n{said}"));
        assert_eq!(row.split_whitespace().filter(|word| word.parse::<f64>().is_ok()).count(), 4, "{said}");
    }
}
