//! Files that an answer names: by a link, by an image, or on a line of their own that begins with `file:`.
//!
//! These are names and nothing more. What stands behind them is looked at beneath the workspace, like everything else that
//! an agent leaves.

use std::path::PathBuf;

/// Names that are looked at in one answer, and bytes of one.
const NAMES: usize = 50;
const NAME_BYTES: usize = 1024;

/// A file's name in an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub path: PathBuf,
    /// Whether the file itself is what is said: an image, or a line for it. A link may only point at something.
    pub shown: bool,
}

pub(super) fn named(answer: &str) -> Vec<Named> {
    let mut found: Vec<Named> = Vec::new();
    let mut fence = None;
    for line in answer.lines() {
        let line = line.trim();
        // What stands in a block of code is code.
        if let Some(mark) = ["```", "~~~"].into_iter().find(|mark| line.starts_with(mark)) {
            match fence {
                None => fence = Some(mark),
                Some(open) if open == mark => fence = None,
                Some(_) => {}
            }
            continue;
        }
        if fence.is_some() {
            continue;
        }
        let of_line =
            line.get(..5).filter(|start| start.eq_ignore_ascii_case("file:")).map(|start| (&line[start.len()..], true));
        let names: Vec<_> = of_line.into_iter().chain(links(line)).collect();
        for (name, shown) in names {
            let Some(path) = path(name) else { continue };
            match found.iter().position(|named| named.path == path) {
                Some(at) => found[at].shown |= shown,
                None if found.len() < NAMES => found.push(Named { path, shown }),
                None => {}
            }
        }
    }
    found
}

/// Where the links and images of a line lead, and whether each is an image.
fn links(line: &str) -> Vec<(&str, bool)> {
    let mut found = Vec::new();
    let mut rest = line;
    let mut image = false;
    while let Some(at) = rest.find("](") {
        image = rest[..at].rfind('[').map_or(image, |open| rest[..open].ends_with('!'));
        rest = &rest[at + 2..];
        let end = match rest.strip_prefix('<') {
            Some(inner) => inner.find('>').map(|end| (&inner[..end], end + 2)),
            None => rest.find(')').map(|end| (&rest[..end], end)),
        };
        let Some((target, end)) = end else { break };
        let target = match rest.starts_with('<') {
            true => target,
            // A title may follow.
            false => target.split_whitespace().next().unwrap_or_default(),
        };
        found.push((target, image));
        rest = &rest[end..];
    }
    found
}

/// A name as a path, unless it is an address or a place within the answer.
fn path(name: &str) -> Option<PathBuf> {
    let name = name.trim().trim_matches('`');
    let name = name.strip_prefix("file:").unwrap_or(name);
    let name = name.strip_prefix("//").unwrap_or(name);
    let scheme = name.split('/').next().is_some_and(|first| first.contains(':'));
    if name.is_empty() || name.len() > NAME_BYTES || name.starts_with('#') || scheme {
        return None;
    }
    let name = name.replace("%20", " ");
    Some(PathBuf::from(name.strip_prefix("./").unwrap_or(&name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(answer: &str) -> Vec<(String, bool)> {
        named(answer).into_iter().map(|named| (named.path.to_string_lossy().into_owned(), named.shown)).collect()
    }

    #[test]
    fn files_are_named_by_links_images_and_lines() {
        let answer = "See [the report](report.md) and ![a chart](charts/eggs.png \"Eggs\").\n\
                      file: notes.txt\nFile: `/workspace/deep/a b.csv`\n[spaces](<my nest.txt>) [more](./more%20eggs.txt)";
        let expected = [
            ("report.md", false),
            ("charts/eggs.png", true),
            ("notes.txt", true),
            ("/workspace/deep/a b.csv", true),
            ("my nest.txt", false),
            ("more eggs.txt", false),
        ];
        assert_eq!(names(answer), expected.map(|(name, shown)| (name.to_owned(), shown)));
        assert_eq!(names("[a](x.md) and ![a](x.md)"), [("x.md".to_owned(), true)]);
    }

    #[test]
    fn addresses_code_and_places_are_no_files() {
        let answer = "[site](https://example.org/a.md) [top](#top) [mail](mailto:a@example.org) [row](src/main.rs:12)\n\
                      ```\n[x](x.md)\nfile: y.md\n```\n[open](never, ![";
        assert_eq!(names(answer), [("src/main.rs:12".to_owned(), false)]);
        assert_eq!(names("file:"), []);
        assert_eq!(names("파일: x [é](é.md)"), [("é.md".to_owned(), false)]);
        assert_eq!(names("file:///workspace/x.md"), [("/workspace/x.md".to_owned(), true)]);
        let many: String = (0..100).map(|at| format!("[x]({at}.md)\n")).collect();
        assert_eq!(names(&many).len(), NAMES);
    }
}
