//! Reads stories out of Markdown files.

use std::path::{Path, PathBuf};

/// A story: its title and its lines, as they stand in a code block.
#[derive(Clone, Debug)]
pub struct Story {
    /// The file's name without its end.
    pub file: String,
    pub title: String,
    pub lines: Vec<Line>,
}

/// A line with what hangs below it.
#[derive(Clone, Debug)]
pub struct Line {
    pub number: usize,
    pub text: String,
    /// Further lines of its text: `  | …`.
    pub more: Vec<String>,
    /// Rows of buttons: `  [One] [Two]`.
    pub rows: Vec<Vec<String>>,
}

impl Story {
    /// The title as part of a test's name.
    pub fn name(&self) -> String {
        let words = self.title.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
        words.collect::<Vec<_>>().join("_")
    }
}

impl Line {
    /// The first line's text with the further ones.
    pub fn whole(&self, first: &str) -> String {
        let mut text = first.to_owned();
        for line in &self.more {
            text.push('\n');
            text.push_str(line);
        }
        text
    }
}

/// All stories beside this file, in the order of their files.
pub fn read_all() -> Vec<Story> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stories");
    let entries = std::fs::read_dir(&folder).expect("the folder of the stories can be read").flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|end| end == "md") && !path.ends_with("README.md"));
    files.sort();
    let mut stories = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(&path).expect("a file of stories can be read");
        let file = path.file_stem().and_then(|name| name.to_str()).expect("its name is text").to_owned();
        stories.extend(read(&file, &text));
    }
    let mut names: Vec<_> = stories.iter().map(|story| (story.file.clone(), story.name())).collect();
    names.sort();
    let twins: Vec<_> = names.windows(2).filter(|pair| pair[0] == pair[1]).collect();
    assert!(twins.is_empty(), "two stories have the same title: {twins:?}");
    stories
}

fn read(file: &str, text: &str) -> Vec<Story> {
    let mut stories: Vec<Story> = Vec::new();
    let mut fenced = false;
    for (at, line) in text.lines().enumerate() {
        let number = at + 1;
        if line.starts_with("```") {
            fenced = !fenced;
            continue;
        }
        let trimmed = line.trim();
        if !fenced || trimmed.is_empty() || trimmed.starts_with("# ") {
            continue;
        }
        if let Some(title) = trimmed.strip_prefix("--- ").and_then(|rest| rest.strip_suffix(" ---")) {
            stories.push(Story { file: file.to_owned(), title: title.to_owned(), lines: Vec::new() });
            continue;
        }
        let story = stories.last_mut().unwrap_or_else(|| panic!("{file}.md:{number}: a line before the first title"));
        if !line.starts_with(' ') {
            story.lines.push(Line { number, text: line.to_owned(), more: Vec::new(), rows: Vec::new() });
            continue;
        }
        let above = story.lines.last_mut().unwrap_or_else(|| panic!("{file}.md:{number}: this hangs below nothing"));
        if let Some(more) = trimmed.strip_prefix('|') {
            above.more.push(more.strip_prefix(' ').unwrap_or(more).to_owned());
        } else if trimmed.starts_with('[') && trimmed.ends_with(']') {
            let row = trimmed[1..trimmed.len() - 1].split("] [");
            above.rows.push(row.map(str::to_owned).collect());
        } else {
            panic!("{file}.md:{number}: a line that hangs below another begins with | or [");
        }
    }
    stories
}
