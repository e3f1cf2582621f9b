//! `salon bot`: the list of bots, from the command line.
//!
//! The file belongs to whoever wrote it: adding appends an entry, removing takes one out, changing touches the lines that are
//! meant, and everything else, comments included, stays as it is. What comes out is read back before it replaces the file.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use salon_bots::Surroundings;
use salon_bots::roster::{self, Access, BotConfig, Intake};
use salon_core::BotId;

use crate::config::Config;

/// What `salon bot add` was told.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct Add {
    /// The bot's name in Salon: letters, digits, '-', '_' and '.'
    pub id: String,
    /// The token that @BotFather gave, or - to read it from standard input; without it TELEGRAM_BOT_TOKEN is used when
    /// Salon starts
    #[arg(long)]
    pub token: Option<String>,
    /// What people see
    #[arg(long)]
    pub name: Option<String>,
    /// Your Telegram user id; without it and without --allow nobody may use the bot
    #[arg(long)]
    pub owner: Option<i64>,
    /// Further people who may use it, separated by commas
    #[arg(long, value_delimiter = ',')]
    pub allow: Vec<i64>,
    /// Who answers: storyteller, parrot, model, or an engine of salon.toml
    #[arg(long, default_value = "model")]
    pub engine: String,
    /// The https address under which Telegram reaches Salon; without it the bot polls
    #[arg(long)]
    pub public_url: Option<String>,
}

pub fn list(config: &Config) -> Result<()> {
    let bots = roster::read(&config.bots_file, &config.around)?;
    if bots.is_empty() {
        println!("No bot yet. Add one: salon bot add NAME --token TOKEN --owner YOUR_ID");
        return Ok(());
    }
    for bot in bots {
        let intake = match &bot.intake {
            Intake::Polling => "polls".to_owned(),
            Intake::Webhook { public_url } => format!("webhook at {public_url}"),
            Intake::Off => "off".to_owned(),
        };
        let access = match &bot.access {
            Access::Nobody => "nobody may use it (set owner_user_id or allow)".to_owned(),
            Access::Everyone => "everyone may use it".to_owned(),
            Access::People(people) => format!("{} may use it", people.len()),
        };
        let policy = bot.policy.map(|policy| format!("  policy {}", policy.as_str())).unwrap_or_default();
        println!("{}  {}  token {}  engine {}{policy}  {intake}  {access}", bot.id, bot.name, bot.token, bot.engine);
    }
    Ok(())
}

pub fn add(config: &Config, add: &Add) -> Result<()> {
    let mut add = add.clone();
    if add.token.as_deref() == Some("-") {
        // What stands on a command line can be read by everyone on the machine.
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).context("reading the token")?;
        add.token = Some(line.trim().to_owned());
    }
    let add = &add;
    let new = with_entry(&read(&config.bots_file)?, add, &around(&config.around))?;
    replace(&config.bots_file, &config.around, &new)?;
    println!("Added {}. A running Salon takes it in within a second.", add.id);
    if add.owner.is_none() && add.allow.is_empty() {
        println!("Nobody may use it yet: give it --owner, or write owner_user_id into {}.", config.bots_file.display());
    }
    Ok(())
}

pub fn remove(config: &Config, id: &str) -> Result<()> {
    let old = read(&config.bots_file)?;
    let new = without(&old, id).with_context(|| format!("there is no bot {id} in {}", config.bots_file.display()))?;
    replace(&config.bots_file, &config.around, &new)?;
    println!("Removed {id}. A running Salon lets it go within a second; what it said stays.");
    Ok(())
}

/// The list with one more entry.
pub(crate) fn with_entry(old: &str, add: &Add, around: &Surroundings) -> Result<String> {
    ensure!(BotId::is_valid(&add.id), "a bot's name has letters, digits, '-', '_' and '.', at most 64 of them");
    // A list that was written empty is begun anew.
    let old = if is_empty(old) { "" } else { old };
    let known = roster::parse(old, around)?;
    if !old.is_empty() && known.iter().any(|bot| bot.id.as_str() == add.id) {
        bail!("there is a bot {} already", add.id);
    }
    let mut new = if old.is_empty() { "bots:\n".to_owned() } else { with_last_newline(old) };
    new.push_str(&entry(add)?);
    Ok(new)
}

/// Whether a list says nothing of any bot.
pub(crate) fn is_empty(text: &str) -> bool {
    matches!(text.trim(), "" | "bots: []")
}

/// A new entry of the list, indented by two.
fn entry(add: &Add) -> Result<String> {
    let mut fields = vec![("bot_id", quoted(&add.id)?)];
    if let Some(name) = &add.name {
        fields.push(("name", quoted(name)?));
    }
    fields.push(("telegram_token", quoted(add.token.as_deref().unwrap_or("TELEGRAM_BOT_TOKEN"))?));
    fields.push(("adapter", quoted(&add.engine)?));
    if let Some(owner) = add.owner {
        fields.push(("owner_user_id", owner.to_string()));
    }
    if !add.allow.is_empty() {
        let people: Vec<_> = add.allow.iter().map(i64::to_string).collect();
        fields.push(("allow", format!("[{}]", people.join(", "))));
    }
    let mut text = String::new();
    for (at, (key, value)) in fields.iter().enumerate() {
        text.push_str(if at == 0 { "  - " } else { "    " });
        text.push_str(&format!("{key}: {value}\n"));
    }
    if let Some(url) = &add.public_url {
        let (path, header) = (secret(), secret());
        let url = quoted(url)?;
        text.push_str(&format!(
            "    webhook:\n      public_url: {url}\n      path_secret: \"{path}\"\n      secret_token: \"{header}\"\n"
        ));
    }
    Ok(text)
}

/// A YAML string; JSON's form is one.
pub(crate) fn quoted(text: &str) -> Result<String> {
    serde_json::to_string(text).context("the text cannot be written down")
}

/// 256 random bits in Telegram's alphabet for secrets.
pub fn secret() -> String {
    let bytes: [u8; 32] = rand::random();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The list without one entry; `None` if it has no such entry in the block form.
pub(crate) fn without(text: &str, id: &str) -> Option<String> {
    let lines: Vec<&str> = text.lines().collect();
    let (start, end) = block(&lines, id)?;
    let kept: Vec<&str> = lines[..start].iter().chain(&lines[end..]).copied().collect();
    Some(with_last_newline(&kept.join("\n")))
}

/// The list with other fields of one entry: each gets a value of one line, or goes. `None` if there is no such entry in the
/// block form, or a field that goes begins it.
pub(crate) fn with_fields(text: &str, id: &str, fields: &[(&str, Option<String>)]) -> Option<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for (key, value) in fields {
        let view: Vec<&str> = lines.iter().map(String::as_str).collect();
        let (start, end) = block(&view, id)?;
        let dash = view[start].find('-')?;
        let depth = view[start][dash + 1..].find(|c: char| c != ' ')? + dash + 1;
        let said = |at: usize| {
            let field = if at == start { view[at].get(depth..)? } else { view[at].strip_prefix(&" ".repeat(depth))? };
            field.strip_prefix(key)?.starts_with(':').then_some(at)
        };
        let found = (start..end).find_map(said);
        let rest = found.map(|at| {
            let deeper = |line: &&str| line.trim().is_empty() || line.len() - line.trim_start().len() > depth;
            at + 1 + view[at + 1..end].iter().take_while(|line| deeper(line)).count()
        });
        let last =
            (start..end).rev().find(|at| !view[*at].trim().is_empty() && !view[*at].trim_start().starts_with('#'));
        let behind = last.unwrap_or(start) + 1;
        match (found, rest, value) {
            (Some(at), Some(rest), Some(value)) => {
                let head = if at == start { view[at][..depth].to_owned() } else { " ".repeat(depth) };
                lines.splice(at..rest, [format!("{head}{key}: {value}")]);
            }
            (Some(at), _, None) if at == start => return None,
            (Some(at), Some(rest), None) => drop(lines.drain(at..rest)),
            (_, _, Some(value)) => lines.insert(behind, format!("{}{key}: {value}", " ".repeat(depth))),
            _ => {}
        }
    }
    Some(with_last_newline(&lines.join("\n")))
}

/// Where an entry begins, and where what comes after it does.
fn block(lines: &[&str], id: &str) -> Option<(usize, usize)> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let starts_entry = |line: &str| line.trim_start().starts_with("- ");
    let names = |line: &str| {
        let line = line.trim_start().trim_start_matches("- ").trim();
        line.strip_prefix("bot_id:")
            .is_some_and(|value| value.split(" #").next().unwrap_or_default().trim().trim_matches(['"', '\'']) == id)
    };
    let named = lines.iter().position(|line| names(line))?;
    let start = (0..=named).rev().find(|at| starts_entry(lines[*at]))?;
    let depth = indent(lines[start]);
    let after = lines[start + 1..].iter().position(|line| {
        let blank = line.trim().is_empty();
        !blank && indent(line) <= depth
    });
    Some((start, after.map_or(lines.len(), |at| start + 1 + at)))
}

fn with_last_newline(text: &str) -> String {
    let mut text = text.to_owned();
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

pub(crate) fn read(path: &Path) -> Result<String> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error).with_context(|| format!("{} cannot be read", path.display())),
    }
}

/// The surroundings in which the list is judged: the token that the environment gives when Salon starts need not be set
/// in this shell.
pub(crate) fn around(around: &Surroundings) -> Surroundings {
    let mut around = around.clone();
    around.token.get_or_insert_with(|| "0:given-at-the-start".to_owned());
    around
}

/// Reads a list before it becomes the list.
pub(crate) fn judged(given: &Surroundings, text: &str) -> Result<Vec<BotConfig>> {
    roster::parse(text, &around(given)).context("the list would not be right, nothing was changed")
}

/// Puts the new list in place in one step, if it can be read.
pub(crate) fn replace(path: &Path, given: &Surroundings, text: &str) -> Result<()> {
    judged(given, text)?;
    let written = || format!("{} cannot be written", path.display());
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).with_context(written)?;
    }
    let beside = path.with_extension("yaml.new");
    write_private(&beside, text).with_context(written)?;
    std::fs::rename(&beside, path).with_context(written)
}

/// Tokens are inside: for the owner's eyes only.
pub fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = std::fs::File::options().create(true).truncate(true).write(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "# Our bots.\nbots:\n  - bot_id: parrot # says it back\n    telegram_token: \"1:a\"\n    webhook:\n      public_url: \"\"\n\n  - name: Second\n    bot_id: 'stork'\n    telegram_token: \"1:b\"\n# The end.\n";

    #[test]
    fn removing_leaves_the_others_and_their_comments() {
        let without_parrot = without(LIST, "parrot").expect("a list");
        assert_eq!(
            without_parrot,
            "# Our bots.\nbots:\n  - name: Second\n    bot_id: 'stork'\n    telegram_token: \"1:b\"\n# The end.\n"
        );
        let without_stork = without(LIST, "stork").expect("a list");
        assert!(without_stork.contains("parrot") && !without_stork.contains("stork"));
        assert!(without_stork.ends_with("# The end.\n"));
        assert_eq!(without(LIST, "heron"), None);
    }

    #[test]
    fn changing_touches_the_lines_that_are_meant() {
        let quoted = |text: &str| Some(format!("{text:?}"));
        let changed = with_fields(LIST, "parrot", &[("mode", quoted("off")), ("webhook", None)]).expect("a list");
        let parrot = "  - bot_id: parrot # says it back\n    telegram_token: \"1:a\"\n    mode: \"off\"\n";
        assert!(changed.contains(parrot), "{changed}");
        assert!(changed.contains("bot_id: 'stork'") && changed.starts_with("# Our bots."));
        let renamed = with_fields(LIST, "stork", &[("name", quoted("A: b")), ("telegram_token", quoted("1:c"))]);
        let renamed = renamed.expect("a list");
        assert!(
            renamed.contains("  - name: \"A: b\"\n    bot_id: 'stork'\n    telegram_token: \"1:c\"\n"),
            "{renamed}"
        );
        assert!(renamed.ends_with("# The end.\n") && renamed.contains("telegram_token: \"1:a\""));
        assert_eq!(with_fields(LIST, "stork", &[("name", None)]), None);
        assert_eq!(with_fields(LIST, "heron", &[("mode", quoted("off"))]), None);
        assert_eq!(with_fields("bots: [{bot_id: parrot}]", "parrot", &[("mode", quoted("off"))]), None);
    }

    #[test]
    fn a_name_cannot_bend_the_list() {
        let add = Add {
            id: "x".into(),
            token: Some("1:a\"\n  - bot_id: evil".into()),
            name: None,
            owner: None,
            allow: vec![],
            engine: "parrot".into(),
            public_url: None,
        };
        let text = format!("bots:\n{}", entry(&add).expect("an entry"));
        let around = salon_bots::Surroundings { api_base: "https://api.telegram.org".into(), ..Default::default() };
        assert_eq!(roster::parse(&text, &around).expect("a list").len(), 1);
    }

    #[test]
    fn secrets_are_long_and_different() {
        assert_eq!(secret().len(), 64);
        assert_ne!(secret(), secret());
    }
}
