//! Places where a debug build can be made to die, so that a test sees what a crash there leaves behind.
//!
//! `SALON_FAIL_POINT=name@n` ends the process by `abort` at the n-th time the point is passed. Release builds have none
//! of this. [`POINTS`] is the list that the tests walk through; naming a point that is not in it fails at once.

/// Every named point, in the order in which a question passes them.
pub const POINTS: &[&str] = &[
    "commit.before",
    "commit.after",
    "webhook.before_commit",
    "webhook.after_commit",
    "poll.before_commit",
    "poll.after_commit",
    "update.before_commit",
    "update.after_commit",
    "run.before_start",
    "run.after_start",
    "run.before_finish",
    "run.after_finish",
    "deliver.before_place",
    "deliver.after_place",
    "deliver.before_record",
    "deliver.after_record",
    "deliver.before_edit",
    "deliver.after_edit",
    "deliver.before_finish",
    "deliver.after_finish",
];

/// Dies here if the environment says so. See the module documentation.
#[macro_export]
macro_rules! fail_point {
    ($name:literal) => {
        #[cfg(debug_assertions)]
        $crate::failpoint::pass($name);
    };
}

#[cfg(debug_assertions)]
pub fn pass(name: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static PLAN: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);

    debug_assert!(POINTS.contains(&name), "{name} is not in the list of fail points");
    #[expect(clippy::disallowed_methods, reason = "a debug build's own switch, read where it acts")]
    let plan = PLAN.get_or_init(|| {
        let plan = std::env::var("SALON_FAIL_POINT").ok()?;
        let (name, times) = plan.split_once('@').unwrap_or((&plan, "1"));
        Some((name.to_owned(), times.parse().ok()?))
    });
    if let Some((point, times)) = plan
        && point == name
        && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == *times
    {
        std::process::abort();
    }
}

/// Whether a debug build was told to break a rule (`SALON_SABOTAGE`), so that a test can see that the rule is needed.
#[cfg(debug_assertions)]
pub fn sabotaged(what: &str) -> bool {
    use std::sync::OnceLock;

    static SABOTAGE: OnceLock<Option<String>> = OnceLock::new();
    #[expect(clippy::disallowed_methods, reason = "a debug build's own switch, read where it acts")]
    let sabotage = SABOTAGE.get_or_init(|| std::env::var("SALON_SABOTAGE").ok());
    sabotage.as_deref() == Some(what)
}

#[cfg(not(debug_assertions))]
pub fn sabotaged(_what: &str) -> bool {
    false
}
