//! What of the host a program needs to be run: itself, what it is installed with, and its interpreter.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// A program, ready to be put into a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    pub program: PathBuf,
    /// Arguments in front of its own.
    pub before: Vec<String>,
    pub show: Vec<PathBuf>,
}

impl Installed {
    /// Follows `program` to where it is. A script of Node.js is run by the `node` that `path` has.
    pub fn find(program: &Path, path: &str) -> io::Result<Installed> {
        let real = program.canonicalize()?;
        let mut show = vec![package(&real)];
        let interpreter = interpreter(&real)?;
        let Some(name) = interpreter else {
            return Ok(Installed { program: real, before: Vec::new(), show: trim(show) });
        };
        let found = std::env::split_paths(path).map(|folder| folder.join(&name)).find(|program| program.is_file());
        let found =
            found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{name} is not on the path")))?;
        let found = found.canonicalize()?;
        // A prefix has its libraries beside `bin`.
        show.push(found.clone());
        Ok(Installed { program: found, before: vec![real.to_string_lossy().into_owned()], show: trim(show) })
    }
}

/// The folder that a program was installed with: everything beside it, where a package manager put it.
fn package(program: &Path) -> PathBuf {
    let outermost = program.ancestors().filter(|folder| folder.file_name().is_some_and(|name| name == "node_modules"));
    outermost.last().map_or_else(|| program.to_owned(), Path::to_owned)
}

/// What is under /usr is shown to everybody.
fn trim(show: Vec<PathBuf>) -> Vec<PathBuf> {
    show.into_iter().filter(|path| !path.starts_with("/usr")).collect()
}

/// The program's name in `#!/usr/bin/env node`, or the path in `#!/bin/sh`.
fn interpreter(program: &Path) -> io::Result<Option<String>> {
    let mut head = [0; 256];
    let read = std::fs::File::open(program)?.read(&mut head)?;
    let Some(rest) = head[..read].strip_prefix(b"#!") else { return Ok(None) };
    let line = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let mut words = line.split_whitespace().filter(|word| *word != "-S");
    let first = words.next().unwrap_or_default();
    Ok(match Path::new(first).file_name().and_then(|name| name.to_str()) {
        Some("env") => words.next().map(str::to_owned),
        // The kernel finds it by itself.
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_of_a_package_is_shown_with_all_of_it() {
        let root = std::env::temp_dir().join(format!("installed-{}", std::process::id()));
        let bin = root.join("lib/node_modules/agent/bin");
        std::fs::create_dir_all(&bin).expect("a folder");
        std::fs::write(bin.join("agent.js"), "#!/usr/bin/env node\n").expect("a script");
        let node = root.join("bin");
        std::fs::create_dir_all(&node).expect("a folder");
        std::fs::write(node.join("node"), "\u{7f}ELF").expect("a program");
        let link = root.join("agent");
        std::fs::remove_file(&link).ok();
        std::os::unix::fs::symlink(bin.join("agent.js"), &link).expect("a link");
        let root = root.canonicalize().expect("the folder");
        let found = Installed::find(&link, node.to_str().expect("a path")).expect("found");
        assert_eq!(found.program, root.join("bin/node"));
        assert_eq!(found.before, [root.join("lib/node_modules/agent/bin/agent.js").to_string_lossy()]);
        assert_eq!(found.show, [root.join("lib/node_modules"), root.join("bin/node")]);
        assert!(Installed::find(&link, "/nowhere").is_err());
        std::fs::remove_dir_all(&root).expect("removed");
    }
}
