//! `cargo xtask test`: one command that proves everything this repository promises.
//!
//! Every step runs even when an earlier one failed, so that one run tells most; the first failure
//! decides the exit code. Nothing is skipped in silence: what is missing is installed where that is
//! possible (root on Debian) and is otherwise a failure that says what to install.
//!
//! | module | does |
//! |---|---|
//! | `run` | starts programs: the only door to the outside |
//! | `postgres` | a real PostgreSQL in a scratch folder, stopped whatever happens to us |
//! | `browser` | the browser tests in `e2e/`, with Node and Chromium |
//! | `clients` | the bots of other libraries in `e2e/clients/`, the SDKs in `e2e/sdks/` and schemathesis in `e2e/schema/`, with Node and Python, and signing on in `e2e/oidc/` |
//! | `node` | a Node that is new enough, and the packages of a folder |

mod browser;
mod clients;
mod node;
mod postgres;
mod run;

use std::fs::{self, File};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};

const USAGE: &str = "\
usage: cargo xtask test [--only STEP]... [--long] [--keep] [-- ARGS]

steps  fmt clippy rust e2e clients sdks schema oidc   run by default, in this order
       deny                                           only when asked for: needs cargo-deny

--only STEP   run this step; may be repeated
--long        run the longer versions of the tests (sets SALON_LONG=1)
--keep        keep PostgreSQL's scratch folder to look at afterwards
-- ARGS       for the rust step, instead of --workspace: `--only rust -- -p salon-store`";

struct Step {
    name: &'static str,
    by_default: bool,
    run: fn(&Plan) -> Result<()>,
}

/// Cheap steps first, so that a slip shows early.
const STEPS: &[Step] = &[
    Step { name: "fmt", by_default: true, run: |_| run::run(run::cargo().args(["fmt", "--all", "--check"])) },
    Step { name: "clippy", by_default: true, run: |_| run::run(run::cargo().args(CLIPPY)) },
    Step { name: "rust", by_default: true, run: rust },
    Step { name: "e2e", by_default: true, run: |plan| browser::test(plan.long) },
    Step { name: "clients", by_default: true, run: |_| clients::test() },
    Step { name: "sdks", by_default: true, run: |_| clients::test_sdks() },
    Step { name: "schema", by_default: true, run: |plan| clients::test_schema(plan.long) },
    Step { name: "oidc", by_default: true, run: |_| clients::test_oidc() },
    Step { name: "deny", by_default: false, run: deny },
];

const CLIPPY: [&str; 7] = ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];

/// What the command line asks for.
#[derive(Default)]
struct Plan {
    steps: Vec<&'static Step>,
    long: bool,
    keep: bool,
    rust_args: Vec<String>,
}

impl Plan {
    fn parse(args: impl IntoIterator<Item = String>) -> Result<Plan> {
        let mut args = args.into_iter();
        if args.next().as_deref() != Some("test") {
            bail!("the one task is `test`");
        }
        let mut plan = Plan::default();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--long" => plan.long = true,
                "--keep" => plan.keep = true,
                "--only" => {
                    let name = args.next().context("--only needs the name of a step")?;
                    let step = STEPS.iter().find(|step| step.name == name);
                    plan.steps.push(step.with_context(|| format!("there is no step `{name}`"))?);
                }
                "--" => plan.rust_args.extend(args.by_ref()),
                _ => bail!("unknown argument `{arg}`"),
            }
        }
        if plan.steps.is_empty() {
            plan.steps = STEPS.iter().filter(|step| step.by_default).collect();
        }
        Ok(plan)
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if matches!(args.first().map(String::as_str), Some("help" | "--help" | "-h")) {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    match Plan::parse(args) {
        Ok(plan) => test(&plan).unwrap_or_else(|error| {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }),
        Err(error) => {
            eprintln!("xtask: {error:#}\n\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn test(plan: &Plan) -> Result<ExitCode> {
    std::env::set_current_dir(run::root())?;
    // Two runs at once would take each other's server for a left-over and stop it.
    fs::create_dir_all(run::scratch())?;
    let lock = File::create(run::scratch().join("lock"))?;
    lock.try_lock().context("another `cargo xtask test` is running in this checkout")?;

    let mut rows = Vec::new();
    let mut exit = None;
    for step in &plan.steps {
        println!("\n=== {} ===", step.name);
        let (result, took) = timed(|| (step.run)(plan));
        let verdict = match result {
            Ok(()) => "ok".to_string(),
            Err(error) => {
                exit.get_or_insert_with(|| run::exit_code(&error));
                format!("FAILED: {error:#}")
            }
        };
        println!("--- {}: {verdict} ({})", step.name, seconds(took));
        rows.push((step.name, took, verdict));
    }

    println!("\n{:<8} {:>9}  result", "step", "time");
    for (name, took, verdict) in rows {
        println!("{name:<8} {:>9}  {verdict}", seconds(took));
    }
    Ok(ExitCode::from(exit.unwrap_or(0)))
}

/// All Rust tests, with a PostgreSQL of our own; its address travels in `SALON_TEST_POSTGRES`.
fn rust(plan: &Plan) -> Result<()> {
    // The tests start one by themselves.
    if run::on_path("redis-server").is_none() {
        run::install("Redis", &["redis-server"])?;
    }
    let agents = clients::install_agents()?;
    let server = postgres::start(plan.keep)?;
    let with_server = |mut command: std::process::Command| {
        command.env("SALON_TEST_POSTGRES", server.url()).env("SALON_TEST_AGENTS", &agents);
        if plan.long {
            command.env("SALON_LONG", "1");
        }
        command
    };
    let everything = ["--workspace".to_string()];
    let what = if plan.rust_args.is_empty() { &everything[..] } else { &plan.rust_args };

    if run::on_path("cargo-nextest").is_none() {
        println!("cargo-nextest is not installed: `cargo test` does the same, a little slower.");
        return run::run(with_server(run::cargo()).args(["test", "--locked"]).args(what));
    }
    let profile = if plan.long { "long" } else { "default" };
    let tests =
        run::run(with_server(run::cargo()).args(["nextest", "run", "--locked", "--profile", profile]).args(what));
    if !plan.rust_args.is_empty() {
        return tests;
    }
    // Nextest does not run the examples in doc comments.
    let examples = run::run(with_server(run::cargo()).args(["test", "--doc", "--workspace", "--locked", "--quiet"]));
    tests.and(examples)
}

fn deny(_: &Plan) -> Result<()> {
    if run::on_path("cargo-deny").is_none() {
        bail!("cargo-deny is missing: install it with `cargo install --locked cargo-deny`");
    }
    run::run(run::cargo().args(["deny", "--offline", "check", "bans", "licenses", "sources"]))
}

#[expect(clippy::disallowed_methods, reason = "a step's duration is for people; nothing decides by it")]
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let started = std::time::Instant::now();
    let result = work();
    (result, started.elapsed())
}

fn seconds(took: Duration) -> String {
    format!("{:.1} s", took.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(plan: &Plan) -> Vec<&str> {
        plan.steps.iter().map(|step| step.name).collect()
    }

    fn parse(line: &str) -> Result<Plan> {
        Plan::parse(line.split_whitespace().map(str::to_string))
    }

    #[test]
    fn a_bare_test_runs_every_default_step() {
        let plan = parse("test").unwrap();
        assert_eq!(names(&plan), ["fmt", "clippy", "rust", "e2e", "clients", "sdks", "schema", "oidc"]);
        assert!(!plan.long && !plan.keep && plan.rust_args.is_empty());
    }

    #[test]
    fn only_may_be_repeated_and_keeps_its_order() {
        let plan = parse("test --only e2e --long --only fmt --keep").unwrap();
        assert_eq!(names(&plan), ["e2e", "fmt"]);
        assert!(plan.long && plan.keep);
    }

    #[test]
    fn what_follows_two_dashes_is_for_the_rust_step() {
        let plan = parse("test --only rust -- -p salon-store --long").unwrap();
        assert_eq!(plan.rust_args, ["-p", "salon-store", "--long"]);
        assert!(!plan.long);
    }

    #[test]
    fn a_slip_of_the_finger_is_refused_by_name() {
        for (line, says) in [
            ("", "the one task is `test`"),
            ("tset", "the one task is `test`"),
            ("test --only", "--only needs the name of a step"),
            ("test --only rusty", "there is no step `rusty`"),
            ("test --fast", "unknown argument `--fast`"),
        ] {
            assert_eq!(parse(line).err().unwrap().to_string(), says, "{line}");
        }
    }
}
