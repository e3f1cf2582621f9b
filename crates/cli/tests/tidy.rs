//! The house rules that no compiler knows. Each test is one rule; a failure lists every place that breaks it.
//!
//! Read `docs/style.md` for the reasons. A rule that turns out wrong is changed here, in the open, and not worked around.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Which of our crates each crate may depend on. Arrows point down only; a new one is a decision.
const ARROWS: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("store", &["core"]),
    ("engine", &["core"]),
    ("telegram", &["core"]),
    ("salon", &["core", "store", "engine"]),
    ("mock", &["telegram"]),
    ("bots", &["core", "store", "salon", "telegram"]),
    ("web", &["core", "store", "salon"]),
    ("cli", &["core", "store", "engine", "telegram", "salon", "mock", "bots", "web"]),
];

/// Outside crates that only some of ours may use; tests may use the ones marked so.
const RESERVED: &[(&str, &[&str], bool)] = &[
    ("sqlx", &["store"], false),
    ("axum", &["web", "mock"], true),
    ("clap", &["cli"], false),
    ("redis", &["salon"], false),
];

/// Packages in Cargo.lock. Each is code that somebody has to trust.
const PACKAGES: usize = 342;

#[test]
fn arrows_between_crates_point_down() {
    let mut broken = Vec::new();
    for (name, manifest) in manifests() {
        let Some((_, allowed)) = ARROWS.iter().find(|(krate, _)| *krate == name) else {
            broken.push(format!("crates/{name}: a new crate; say in ARROWS what it may import"));
            continue;
        };
        for import in ours(&manifest, &["dependencies", "build-dependencies"]) {
            if !allowed.contains(&import.as_str()) {
                broken.push(format!("crates/{name} imports {import}; it may import only {allowed:?}"));
            }
        }
        // A test may borrow what stands beside the crate, but nothing that could import the crate in turn.
        for import in ours(&manifest, &["dev-dependencies"]) {
            if reaches(&import, &name) {
                broken.push(format!("the tests of crates/{name} import {import}, which stands above it"));
            }
        }
    }
    no_more(broken, "arrows between crates point down only (ARCHITECTURE.md)");
}

/// Whether one of our crates imports another, be it through a third.
fn reaches(from: &str, to: &str) -> bool {
    let below = ARROWS.iter().find(|(krate, _)| *krate == from).map_or(&[][..], |(_, below)| below);
    below.iter().any(|krate| *krate == to || reaches(krate, to))
}

#[test]
fn arrows_are_followed_all_the_way() {
    assert!(reaches("web", "engine") && reaches("mock", "core") && reaches("cli", "telegram"));
    assert!(!reaches("core", "store") && !reaches("web", "telegram") && !reaches("salon", "bots"));
}

#[test]
fn databases_servers_and_command_lines_each_have_one_home() {
    let mut broken = Vec::new();
    for (name, manifest) in manifests() {
        for (package, homes, tests_too) in RESERVED {
            let sections: &[&str] = if *tests_too {
                &["dependencies"]
            } else {
                &["dependencies", "dev-dependencies", "build-dependencies"]
            };
            if !homes.contains(&name.as_str()) && depends_on(&manifest, sections).contains(*package) {
                broken.push(format!("crates/{name} uses {package}; its home is {homes:?}"));
            }
        }
    }
    no_more(
        broken,
        "only store speaks SQL, only salon Redis, only web and mock serve HTTP, only cli reads a command line",
    );
}

#[test]
fn every_crate_takes_the_lints_of_the_workspace() {
    let broken = manifests()
        .into_iter()
        .filter(|(_, manifest)| manifest.get("lints").and_then(|lints| lints.get("workspace")) != Some(&true.into()))
        .map(|(name, _)| format!("crates/{name}/Cargo.toml"));
    no_more(broken.collect(), "`[lints] workspace = true` stands in every crate, or `unsafe` is not forbidden there");
}

#[test]
fn cargo_lock_stays_small_and_comes_from_crates_io_alone() {
    let lock: toml::Table = read("Cargo.lock").parse().expect("Cargo.lock is TOML");
    let packages = lock["package"].as_array().expect("packages");
    let ours: BTreeSet<String> = manifests().values().map(package_name).collect();
    let mut broken = Vec::new();
    for package in packages {
        let name = package["name"].as_str().expect("a name");
        match package.get("source").and_then(|source| source.as_str()) {
            Some(source)
                if source.starts_with("registry+")
                    && source.ends_with("/crates.io-index")
                    && package.get("checksum").is_some() => {}
            None if ours.contains(name) || name == "xtask" => {}
            source => broken.push(format!("{name} comes from {source:?}")),
        }
        if ["openssl-sys", "native-tls", "aws-lc-sys"].contains(&name) {
            broken.push(format!("{name} would be a second TLS stack"));
        }
    }
    if packages.len() > PACKAGES {
        broken.push(format!("{} packages; the budget is {PACKAGES}", packages.len()));
    }
    no_more(broken, "dependencies are few, and come from crates.io with a checksum (deny.toml)");
}

#[test]
fn time_is_read_in_one_place() {
    let clocks = ["crates/salon/src/clock.rs", "crates/mock/", "xtask/", "crates/cli/tests/tidy.rs"];
    let broken = product_lines()
        .filter(|line| !clocks.iter().any(|clock| line.file.starts_with(clock)))
        .filter(|line| line.code.contains("SystemTime::now") || reads_the_real_instant(line));
    no_more(
        broken.map(|line| line.to_string()).collect(),
        "time is read by `salon::Clock` alone, so tests can wind it",
    );
}

/// tokio's `Instant` stands still when a test says so; the standard library's does not.
fn reads_the_real_instant(line: &Line) -> bool {
    let paused = line.code.contains("tokio::time::Instant::now")
        || line.whole.lines().any(|line| line.starts_with("use tokio::") && line.contains("Instant"));
    line.code.contains("Instant::now") && !paused
}

#[test]
fn nothing_is_unsafe_and_nothing_is_waved_through() {
    let broken = rust_lines(|_| true).filter(|line| {
        let words: Vec<&str> = line.code.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        words.contains(&"unsafe")
            || line.code.contains(concat!("#[", "allow("))
            || line.code.contains(concat!("#![", "allow("))
    });
    no_more(broken.map(|line| line.to_string()).collect(), "no `unsafe`; `#[expect(…, reason = …)]`, never `allow`");
}

#[test]
fn sql_is_static_text() {
    let mut broken = Vec::new();
    for file in files().into_iter().filter(|file| file.starts_with("crates/store/src/") && file.ends_with(".rs")) {
        let text = read(&file);
        for (at, _) in text.match_indices("query") {
            let Some(call) = call_arguments(&text[at..]) else { continue };
            if call.contains("format!") {
                broken.push(format!("{file}:{}: {}", line_number(&text, at), first_line(&text[at..])));
            }
        }
        // The scratch databases of the tests have names, and a name cannot be bound.
        if text.contains("AssertSqlSafe") && file != "crates/store/src/testing.rs" {
            broken.push(format!("{file}: AssertSqlSafe"));
        }
    }
    no_more(broken, "SQL is static text with `$n`; what people wrote travels as a bound value");
}

#[test]
fn migrations_keep_to_what_both_databases_share() {
    let migrations: Vec<String> = files()
        .into_iter()
        .filter(|file| file.starts_with("crates/store/migrations/") && file.ends_with(".sql"))
        .collect();
    assert!(!migrations.is_empty(), "there are no migrations in crates/store/migrations");
    let broken = migrations
        .iter()
        .flat_map(|file| not_portable(&read(file)).into_iter().map(move |what| format!("{file}: {what}")));
    no_more(broken.collect(), "columns are TEXT, BIGINT, DOUBLE PRECISION or BYTEA (docs/decisions/0001)");
}

#[test]
fn portable_and_other_columns_are_told_apart() {
    let good =
        "CREATE TABLE a (\n id TEXT PRIMARY KEY, -- a BOOLEAN would not do\n x BYTEA,\n y DOUBLE PRECISION NOT NULL,
        n BIGINT CHECK (n IN (0, 1)), UNIQUE (id, n));";
    assert_eq!(not_portable(good), [""; 0]);
    assert_eq!(not_portable("CREATE TABLE a (at TIMESTAMPTZ DEFAULT now())"), ["column `at` is TIMESTAMPTZ", "NOW("]);
    assert_eq!(not_portable("CREATE TABLE IF NOT EXISTS a (ok BOOLEAN)"), ["column `ok` is BOOLEAN", "BOOLEAN"]);
    assert_eq!(not_portable("ALTER TABLE a ADD COLUMN n INTEGER;"), ["column `n` is INTEGER"]);
    assert_eq!(not_portable("ALTER TABLE a ADD COLUMN n BIGINT;"), [""; 0]);
}

/// What in a migration only one of the two databases would understand, or each in its own way.
fn not_portable(sql: &str) -> Vec<String> {
    let code: String =
        sql.lines().map(|line| line.split("--").next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
    let mut broken = Vec::new();
    for statement in code.split(';') {
        let words: Vec<&str> = statement.split_whitespace().collect();
        let upper: Vec<String> = words.iter().map(|word| word.to_uppercase()).collect();
        let starts = |text: &str| upper.join(" ").starts_with(text);
        if starts("CREATE TABLE") {
            for item in top_level_items(arguments(statement).unwrap_or_default()) {
                check_column(item, &mut broken);
            }
        } else if starts("ALTER TABLE")
            && let Some(at) = upper.iter().position(|word| word == "COLUMN").filter(|at| upper[at - 1] == "ADD")
        {
            check_column(&words[at + 1..].join(" "), &mut broken);
        }
    }
    let upper = code.to_uppercase();
    if upper.contains("NOW(") {
        broken.push("NOW(".to_owned());
    }
    let words: BTreeSet<&str> = upper.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    for banned in ["SERIAL", "BIGSERIAL", "AUTOINCREMENT", "CURRENT_TIMESTAMP", "BOOLEAN"] {
        if words.contains(banned) {
            broken.push(banned.to_owned());
        }
    }
    broken
}

fn check_column(definition: &str, broken: &mut Vec<String>) {
    let mut words = definition.split_whitespace();
    let name = words.next().unwrap_or_default();
    if ["PRIMARY", "UNIQUE", "FOREIGN", "CHECK", "CONSTRAINT"].iter().any(|word| name.to_uppercase().starts_with(word))
    {
        return;
    }
    let kind = words.next().unwrap_or_default().to_uppercase();
    let double = kind == "DOUBLE" && words.next().is_some_and(|word| word.eq_ignore_ascii_case("PRECISION"));
    if !double && !["TEXT", "BIGINT", "BYTEA"].contains(&kind.as_str()) {
        let kind = kind.split('(').next().unwrap_or_default();
        broken.push(format!("column `{name}` is {kind}"));
    }
}

#[test]
fn every_relative_link_leads_somewhere() {
    let mut broken = Vec::new();
    for file in files().into_iter().filter(|file| file.ends_with(".md")) {
        let text = read(&file);
        for link in links(&text) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (path, heading) = link.split_once('#').unwrap_or((&link, ""));
            let target =
                if path.is_empty() { root().join(&file) } else { root().join(&file).with_file_name("").join(path) };
            if !target.exists() {
                broken.push(format!("{file}: {link}"));
            } else if !heading.is_empty()
                && path_is(&target, "md")
                && !headings(&fs::read_to_string(&target).unwrap()).contains(heading)
            {
                broken.push(format!("{file}: {link}: no such heading"));
            }
        }
    }
    no_more(broken, "every relative link in Markdown leads somewhere");
}

#[test]
fn links_are_found_in_prose_and_not_in_code() {
    let text =
        "See [a](b.md) and [c](d/e.md#f), ![g](h.png \"i\").\n```\n[no](x)\n```\nand `[no](y)`, a[0](z) apart.\n";
    assert_eq!(links(text), ["b.md", "d/e.md#f", "h.png", "z"]);
    assert_eq!(
        headings("# A `b` c!\ntext\n## Über uns\n```\n# no\n```\n"),
        BTreeSet::from(["a-b-c".to_owned(), "über-uns".to_owned()])
    );
}

fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in prose(text) {
        // Every second piece between back-ticks is code.
        let words: String = line.split('`').step_by(2).collect();
        for (at, _) in words.match_indices("](") {
            let target = words[at + 2..].split(')').next().unwrap_or_default();
            found.extend(target.split_whitespace().next().map(|target| target.trim_matches(['<', '>']).to_owned()));
        }
    }
    found
}

/// The anchors that a page's headings get.
fn headings(text: &str) -> BTreeSet<String> {
    let titles =
        prose(text).filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim().to_lowercase());
    let slug = |title: String| {
        let kept = title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    titles.map(slug).collect()
}

/// The lines outside fenced code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut fenced = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

#[test]
fn the_architecture_names_every_crate() {
    let page = read("ARCHITECTURE.md");
    let broken = manifests().into_keys().filter(|name| {
        ![format!("crates/{name}"), format!("`{name}`"), format!("`{name}/")].iter().any(|way| page.contains(way))
    });
    no_more(broken.collect(), "ARCHITECTURE.md names every crate");
}

#[test]
fn every_crate_begins_with_a_tour() {
    let broken = manifests().into_keys().map(|name| format!("crates/{name}/src/lib.rs")).filter(|file| {
        root().join(file).exists() && read(file).lines().take_while(|line| line.starts_with("//!")).count() < 3
    });
    no_more(broken.collect(), "each lib.rs opens with a `//!` tour of a few sentences");
}

#[test]
fn every_command_is_documented() {
    let page = read("docs/reference/commands.md");
    let commands = commands(&[]);
    assert!(!commands.is_empty(), "`salon --help` lists no commands");
    let broken = commands.into_iter().filter(|command| !page.contains(&format!("salon {command}")));
    no_more(broken.collect(), "docs/reference/commands.md explains every command of `salon --help`");
}

/// The commands that `salon … --help` lists, with those below them.
fn commands(above: &[String]) -> Vec<String> {
    #[expect(clippy::disallowed_methods, reason = "asks the program that was built what it can do")]
    let mut salon = std::process::Command::new(env!("CARGO_BIN_EXE_salon"));
    // An empty folder, so that nobody's `.env` or configuration answers for the program.
    let empty = tempfile::tempdir().expect("a temporary folder");
    let output =
        salon.args(above).arg("--help").current_dir(&empty).env_clear().output().expect("salon can be started");
    assert!(output.status.success(), "`salon {} --help` fails", above.join(" "));
    let help = String::from_utf8(output.stdout).expect("help is text");
    let mut found = Vec::new();
    for name in listed(&help).into_iter().filter(|name| name != "help") {
        let command = [above, &[name]].concat();
        found.push(command.join(" "));
        found.extend(commands(&command));
    }
    found
}

/// The names in the part of a help page that begins with "Commands:".
fn listed(help: &str) -> Vec<String> {
    let part =
        help.lines().skip_while(|line| line.trim() != "Commands:").skip(1).take_while(|line| !line.trim().is_empty());
    // Names stand two columns in; what stands deeper continues a sentence.
    let names = part.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[test]
fn commands_are_read_off_a_help_page() {
    let help = "Usage: salon [OPTIONS]\n\nCommands:\n  serve   Does it\n  doctor  Looks\n          twice\n\nOptions:\n  -h  Help\n";
    assert_eq!(listed(help), ["serve", "doctor"]);
    assert_eq!(listed("Usage: salon serve\n"), [""; 0]);
}

#[test]
fn every_environment_name_is_read_by_the_program() {
    let names = environment_names(&read(".env.example"));
    assert!(!names.is_empty(), ".env.example lists no names");
    let sources: String =
        files().iter().filter(|file| file.starts_with("crates/cli/src/")).map(|file| read(file)).collect();
    let broken = names.into_iter().filter(|name| !sources.contains(&format!("\"{name}\"")));
    no_more(broken.collect(), ".env.example names only what crates/cli/src reads");
}

#[test]
fn environment_names_count_even_when_commented_out() {
    let text = "# What it is.\nSALON_A=1\n#SALON_B=\n# SALON_C=x # y\n# a = b\n\n";
    assert_eq!(environment_names(text), BTreeSet::from(["SALON_A", "SALON_B", "SALON_C"].map(str::to_owned)));
}

fn environment_names(text: &str) -> BTreeSet<String> {
    let names = text.lines().filter_map(|line| Some(line.trim_start_matches(['#', ' ']).split_once('=')?.0));
    let is_name = |name: &&str| {
        name.starts_with(|c: char| c.is_ascii_uppercase())
            && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
    };
    names.filter(is_name).map(str::to_owned).collect()
}

#[test]
fn pages_load_nothing_from_elsewhere() {
    let mut broken = Vec::new();
    for file in files() {
        let web = [".html", ".css", ".js", ".svg"].iter().any(|end| file.ends_with(end));
        if !web || !file.starts_with("crates/") || file.contains("/tests/") {
            continue;
        }
        let text = read(&file);
        let what = loads(&text).into_iter().map(|what| format!("{file}: {}", first_line(what)));
        broken.extend(what);
    }
    no_more(broken, "pages bring their own scripts, styles, fonts and pictures: Salon works without a network");
}

#[test]
fn a_page_may_link_elsewhere_but_not_load_from_there() {
    assert_eq!(
        loads(
            "<a href=\"https://x.y/\">x</a> <script src=\"/api.js\"></script> <svg xmlns=\"http://www.w3.org/2000/svg\">"
        ),
        [""; 0]
    );
    assert_eq!(
        loads("<script type=\"module\"\n src='https://x.y/z.js'>"),
        ["<script type=\"module\"\n src='https://x.y/z.js'>"]
    );
    assert_eq!(loads("<link rel=stylesheet href=//x.y/z.css>").len(), 1);
    assert_eq!(loads("@import \"http://x.y/z.css\";").len(), 1);
    assert_eq!(loads("p { background: url( 'https://x.y/z.png') }").len(), 1);
    assert_eq!(loads("import { a } from \"https://x.y/z.js\";").len(), 1);
    assert_eq!(loads("import { a } from \"./text.js\"; // see https://x.y/").len(), 0);
}

/// The places where a page would fetch something from another host.
fn loads(text: &str) -> Vec<&str> {
    let far = |text: &str| {
        ["http://", "https://", "//"].iter().any(|way| text.trim_start_matches(['"', '\'', ' ']).starts_with(way))
    };
    let mut found = Vec::new();
    for tag in ["<script", "<link", "<img", "<iframe", "<image", "<use"] {
        for (at, _) in text.match_indices(tag) {
            let whole = &text[at..text[at..].find('>').map_or(text.len(), |end| at + end + 1)];
            if whole.match_indices('=').any(|(at, _)| far(&whole[at + 1..]) && !whole[..at].ends_with("xmlns")) {
                found.push(whole);
            }
        }
    }
    for word in ["url(", "@import", "import(", " from ", "importScripts("] {
        let places = text.match_indices(word).filter(|(at, _)| far(&text[at + word.len()..]));
        found.extend(places.map(|(at, _)| &text[at..]));
    }
    found
}

#[test]
fn files_are_neat_and_name_nobodys_machine() {
    let mut broken = Vec::new();
    for file in files() {
        // What other programs printed is kept as they printed it.
        let recorded = ["/fixtures/", "/snapshots/", "/transcripts/"].iter().any(|folder| file.contains(folder));
        let Ok(text) = String::from_utf8(fs::read(root().join(&file)).unwrap()) else { continue };
        if !recorded && !text.is_empty() && !text.ends_with('\n') {
            broken.push(format!("{file}: no line break at its end"));
        }
        for (number, line) in text.lines().enumerate() {
            if !recorded && line.ends_with([' ', '\t', '\r']) {
                broken.push(format!("{file}:{}: white space at the end of the line", number + 1));
            }
            if let Some(path) = machine_path(line) {
                broken.push(format!("{file}:{}: {path}", number + 1));
            }
        }
    }
    no_more(broken, "text files end with a line break, lines end with a word, and nobody's home is named");
}

#[test]
fn homes_are_recognised() {
    let (root, home) = (concat!("/ro", "ot/"), concat!("/ho", "me/"));
    assert_eq!(machine_path(&format!("see {root}x")), Some(root));
    assert_eq!(machine_path(&format!("\"{home}alice\"")), Some(home));
    assert_eq!(machine_path(&format!("the folder {home}")), None);
    assert_eq!(machine_path(&format!("/srv{root}x and chroot{root}")), None);
    assert_eq!(machine_path(&format!("{home}agent")), None);
}

/// The start of a path into a person's home, `root`'s included, if there is one in the line.
fn machine_path(line: &str) -> Option<&'static str> {
    [concat!("/ro", "ot/"), concat!("/ho", "me/")].into_iter().find(|home| {
        line.match_indices(home).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            let after = line[at + home.len()..].chars().next();
            let starts = !before.is_some_and(|c| c.is_alphanumeric() || "_-.}".contains(c));
            // The cell of an agent has a home, too, and it is nobody's.
            let own = line[at..].starts_with(concat!("/ho", "me/agent"));
            starts && !own && (home.contains("root") || after.is_some_and(|c| c.is_alphanumeric()))
        })
    })
}

// What the rules are made of.

fn no_more(broken: Vec<String>, rule: &str) {
    assert!(broken.is_empty(), "\nThe rule: {rule}.\nBroken {} times:\n  {}\n", broken.len(), broken.join("\n  "));
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("crates/cli lies two folders deep")
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file} cannot be read: {error}"))
}

fn path_is(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found == extension)
}

/// Every file of the checkout, relative to its root, without what is built, installed or private.
fn files() -> Vec<String> {
    let skipped = ["target", ".git", "node_modules", "e2e/shots", "data", ".env"];
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = vec![root().to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder can be read").flatten() {
            let path = entry.path();
            let name = path
                .strip_prefix(root())
                .expect("it lies in the root")
                .to_str()
                .expect("file names are text")
                .to_owned();
            let last = entry.file_name();
            if skipped.contains(&name.as_str()) || last == "node_modules" || name.ends_with(".log") {
                continue;
            }
            match entry.file_type().expect("a file has a type") {
                kind if kind.is_dir() => folders.push(path),
                kind if kind.is_file() => found.push(name),
                _ => {}
            }
        }
    }
    found.sort();
    found
}

/// The manifests of `crates/*`, by folder.
fn manifests() -> BTreeMap<String, toml::Table> {
    let folders = fs::read_dir(root().join("crates")).expect("crates/ can be read").flatten().map(|entry| entry.path());
    let crates = folders.filter(|folder| folder.join("Cargo.toml").exists());
    let named = crates.filter_map(|folder| Some(folder.file_name()?.to_str()?.to_owned()));
    named
        .map(|name| (name.clone(), read(&format!("crates/{name}/Cargo.toml")).parse().expect("a manifest is TOML")))
        .collect()
}

fn package_name(manifest: &toml::Table) -> String {
    manifest["package"]["name"].as_str().expect("a package has a name").to_owned()
}

/// The packages a manifest names in these sections, also in those for one system only.
fn depends_on(manifest: &toml::Table, sections: &[&str]) -> BTreeSet<String> {
    let targets = manifest.get("target").and_then(|target| target.as_table());
    let tables = targets.into_iter().flat_map(|targets| targets.values().filter_map(|target| target.as_table()));
    let tables = std::iter::once(manifest).chain(tables);
    let named = tables.flat_map(|table| sections.iter().filter_map(|section| table.get(*section)?.as_table()));
    let real_name = |(name, value): (&String, &toml::Value)| {
        value.get("package").and_then(|package| package.as_str()).unwrap_or(name).to_owned()
    };
    named.flat_map(|section| section.iter().map(real_name).collect::<Vec<_>>()).collect()
}

/// Our own crates among them, by folder.
fn ours(manifest: &toml::Table, sections: &[&str]) -> Vec<String> {
    let folders: BTreeMap<String, String> =
        manifests().into_iter().map(|(name, other)| (package_name(&other), name)).collect();
    depends_on(manifest, sections).iter().filter_map(|package| folders.get(package).cloned()).collect()
}

/// A line of Rust with its place, and without its comment.
struct Line {
    file: String,
    number: usize,
    code: String,
    whole: std::rc::Rc<str>,
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.number, self.code.trim())
    }
}

fn rust_lines(wanted: impl Fn(&str) -> bool) -> impl Iterator<Item = Line> {
    let sources = files().into_iter().filter(move |file| file.ends_with(".rs") && wanted(file));
    sources.flat_map(|file| {
        let whole: std::rc::Rc<str> = read(&file).into();
        let lines: Vec<Line> = whole
            .lines()
            .enumerate()
            .map(|(at, line)| Line {
                file: file.clone(),
                number: at + 1,
                code: code(line).to_owned(),
                whole: whole.clone(),
            })
            .collect();
        lines
    })
}

/// The lines of the product itself: no tests, neither in their own files nor at the end of others.
fn product_lines() -> impl Iterator<Item = Line> {
    let is_test = |file: &str| file.contains("/tests/") || file.ends_with("/testing.rs") || file.ends_with("/tests.rs");
    rust_lines(move |file| !is_test(file)).filter(|line| {
        let tests = line.whole.split("\n#[cfg(test)]\nmod ").next().map_or(0, |before| before.lines().count());
        line.number <= tests
    })
}

/// A line without its comment and its texts, in which any word may stand.
fn code(line: &str) -> String {
    let mut code = String::new();
    let mut chars = line.chars().peekable();
    let mut quoted = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' if quoted => drop(chars.next()),
            // A quotation mark as a character is not the beginning of a text.
            '\'' if !quoted && chars.peek() == Some(&'"') => drop(chars.next()),
            '"' => quoted = !quoted,
            '/' if !quoted && chars.peek() == Some(&'/') => break,
            _ if !quoted => code.push(c),
            _ => {}
        }
    }
    code
}

#[test]
fn code_is_what_is_neither_comment_nor_text() {
    assert_eq!(code("let a = \"// x \\\" y\"; // z"), "let a = ; ");
    assert_eq!(code("if c == '\"' { b() } // \""), "if c == ' { b() } ");
    assert_eq!(code("/// all words"), "");
}

/// What stands between the first parenthesis and its partner.
fn arguments(text: &str) -> Option<&str> {
    let start = text.find('(')? + 1;
    let mut depth = 1;
    for (at, c) in text[start..].char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(&text[start..start + at]);
        }
    }
    None
}

/// What a call is given, if the text begins with one: `query_as::<_, Row>(…)`.
fn call_arguments(text: &str) -> Option<&str> {
    let name = &text[..text.find('(')?];
    name.chars().all(|c| c.is_alphanumeric() || "_:<>, &'".contains(c)).then(|| arguments(text)).flatten()
}

#[test]
fn the_arguments_of_a_call_end_at_its_own_parenthesis() {
    assert_eq!(call_arguments("query_as::<_, Row>(\"a (b)\").bind(c)"), Some("\"a (b)\""));
    assert_eq!(call_arguments("query is a word. So (is this)"), None);
    assert_eq!(call_arguments("query(never closed"), None);
}

/// The pieces of a list, cut at commas that stand in no parentheses.
fn top_level_items(list: &str) -> Vec<&str> {
    let (mut depth, mut start, mut items) = (0, 0, Vec::new());
    for (at, c) in list.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                items.push(&list[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    items.push(&list[start..]);
    items
}

fn line_number(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
