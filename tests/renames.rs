//! The names of the public interface: `docs/renames.toml`, which scripts of users read, agrees with
//! the sources and with the changelog, and the words of other libraries find our items.

use std::fs;
use std::path::{Path, PathBuf};

use support::Result;

/// A row of `docs/renames.toml`.
struct Rename {
    kind: String,
    in_crate: String,
    on: String,
    old: String,
    new: String,
    before: String,
    after: String,
}

impl Rename {
    fn of(row: &toml::Table) -> Self {
        let text = |key: &str| {
            row.get(key)
                .and_then(toml::Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let (kind, in_crate, on) = (text("kind"), text("crate"), text("on"));
        Self {
            kind,
            in_crate,
            on,
            old: text("old"),
            new: text("new"),
            before: text("before"),
            after: text("after"),
        }
    }

    /// Returns its row of the table in the changelog.
    fn in_changelog(&self) -> String {
        let Self {
            kind,
            in_crate,
            on,
            old,
            new,
            before,
            after,
        } = self;
        match kind.as_str() {
            "path" => format!("| path | `{old}` | `{new}` |"),
            "signature" => format!("| signature | `{before}` | `{after}` |"),
            kind => format!("| {kind} | `{in_crate}::{on}::{old}` | `{new}` |"),
        }
    }
}

fn renames() -> Result<Vec<Rename>> {
    let text = fs::read_to_string(root().join("docs/renames.toml"))?;
    let table: toml::Table = text.parse()?;
    let rows = table
        .get("rename")
        .and_then(toml::Value::as_array)
        .ok_or("no [[rename]]")?;
    Ok(rows
        .iter()
        .filter_map(toml::Value::as_table)
        .map(Rename::of)
        .collect())
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The sources of a crate. rustfmt has formatted them: an item of a module stands at the beginning
/// of its line.
struct Sources {
    files: Vec<(PathBuf, String)>,
}

impl Sources {
    fn of(name: &str) -> Result<Self> {
        let mut files = Vec::new();
        let mut folders = vec![root().join("crates").join(name).join("src")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder)? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let text = fs::read_to_string(&path)?;
                    files.push((path, text));
                }
            }
        }
        Ok(Self { files })
    }

    /// Returns the lines of the modules of this name, or of all modules for an empty name.
    fn lines(&self, module: &str) -> impl Iterator<Item = &str> {
        let is_in = move |path: &Path| {
            module.is_empty() || path.with_extension("").iter().any(|part| part == module)
        };
        self.files
            .iter()
            .filter(move |(path, _)| is_in(path))
            .flat_map(|(_, text)| text.lines())
    }

    /// Returns `true` if a public item of this path exists within the crate.
    fn has_item(&self, path: &str) -> bool {
        let (module, name) = path.rsplit_once("::").unwrap_or(("", path));
        let is_it = |line: &str| {
            let item = line.strip_prefix("pub ")?.trim_start_matches("const ");
            let (kind, rest) = item.split_once(' ')?;
            let is_item = ["struct", "enum", "trait", "fn", "type"].contains(&kind);
            (is_item && first_word(rest) == name).then_some(())
        };
        self.lines(module).any(|line| is_it(line).is_some())
    }

    /// Returns the lines of the definition of a type or trait and of its `impl` blocks.
    fn members(&self, on: &str) -> Vec<&str> {
        let (module, name) = on.rsplit_once("::").unwrap_or(("", on));
        let begins = |line: &str| {
            let head = line
                .split_once('{')
                .map_or(line, |(head, _)| head)
                .split(" where")
                .next()
                .unwrap_or(line);
            let is_block = ["impl", "pub struct", "pub enum", "pub trait"]
                .iter()
                .any(|word| line.starts_with(word));
            let subject = head.rsplit(" for ").next().unwrap_or(head);
            is_block
                && subject
                    .split(|c: char| !c.is_alphanumeric())
                    .any(|word| word == name)
        };
        let mut members = Vec::new();
        let mut inside = false;
        for line in self.lines(module) {
            inside = if line == "}" {
                false
            } else {
                inside || begins(line)
            };
            if inside {
                members.push(line.trim_start());
            }
        }
        members
    }

    /// Returns `true` if a type or a trait has this public method.
    fn has_method(&self, on: &str, name: &str) -> bool {
        self.members(on).into_iter().any(|line| {
            let line = line.trim_start_matches("pub ").trim_start_matches("const ");
            line.strip_prefix("fn ")
                .is_some_and(|rest| first_word(rest) == name)
        })
    }

    /// Returns `true` if a struct has this public field, or a variant this field.
    fn has_field(&self, on: &str, name: &str) -> bool {
        let variant = on
            .rsplit_once("::")
            .filter(|(owner, _)| owner.starts_with(char::is_uppercase));
        let Some((owner, variant)) = variant else {
            return self
                .members(on)
                .into_iter()
                .any(|line| line.starts_with(&format!("pub {name}:")));
        };
        let members = self.members(owner);
        let fields = members
            .iter()
            .skip_while(|line| **line != format!("{variant} {{"))
            .take_while(|line| **line != "},");
        fields
            .into_iter()
            .any(|line| line.starts_with(&format!("{name}:")))
    }

    fn has_variant(&self, on: &str, name: &str) -> bool {
        self.members(on)
            .into_iter()
            .any(|line| first_word(line) == name)
    }

    /// Returns `true` if the item that a row describes exists under this name.
    fn has(&self, row: &Rename, name: &str) -> bool {
        let Rename {
            kind, in_crate, on, ..
        } = row;
        match kind.as_str() {
            "path" => name
                .strip_prefix(&format!("{in_crate}::"))
                .is_some_and(|path| self.has_item(path)),
            "field" => self.has_field(on, name),
            "variant" => self.has_variant(on, name),
            _ => match name.rsplit_once("::") {
                Some((on, method)) => self.has_method(on, method) || self.has_item(name),
                None if on == in_crate => self.has_item(name),
                None => self.has_method(on, name) || self.has_item(&format!("{on}::{name}")),
            },
        }
    }
}

fn first_word(text: &str) -> &str {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .next()
        .unwrap_or_default()
}

#[test]
fn each_row_of_the_renames_is_well_formed() -> Result {
    let rows = renames()?;
    assert!(!rows.is_empty());
    for row in rows {
        let name = format!("{} {} {}", row.kind, row.on, row.old);
        assert!(
            ["reactor", "handlers"].contains(&row.in_crate.as_str()),
            "{name}: crate"
        );
        assert!(
            !row.old.is_empty() && !row.new.is_empty(),
            "{name}: old and new"
        );
        assert!(
            ["path", "method", "field", "variant", "signature"].contains(&row.kind.as_str()),
            "{name}: kind"
        );
        assert_eq!(row.on.is_empty(), row.kind == "path", "{name}: on");
        let is_signature = row.kind == "signature";
        assert_eq!(row.before.is_empty(), !is_signature, "{name}: before");
        assert_eq!(row.after.is_empty(), !is_signature, "{name}: after");
        assert!(
            is_signature || row.old != row.new,
            "{name}: nothing changes"
        );
    }
    Ok(())
}

#[test]
fn each_new_name_is_in_the_sources_and_no_old_one() -> Result {
    let (reactor, handlers) = (Sources::of("reactor")?, Sources::of("handlers")?);
    for row in renames()? {
        let sources = if row.in_crate == "reactor" {
            &reactor
        } else {
            &handlers
        };
        assert!(
            sources.has(&row, &row.new),
            "{} {}: there is no {}",
            row.kind,
            row.on,
            row.new
        );
        assert!(
            row.old == row.new || !sources.has(&row, &row.old),
            "{} {}: still {}",
            row.kind,
            row.on,
            row.old
        );
    }
    Ok(())
}

#[test]
fn the_changelog_has_a_row_for_each_rename_and_no_other() -> Result {
    let changelog = fs::read_to_string(root().join("CHANGELOG.md"))?;
    let is_row = |line: &&str| {
        ["path", "method", "field", "variant", "signature"]
            .iter()
            .any(|kind| line.starts_with(&format!("| {kind} |")))
    };
    let listed: Vec<_> = changelog.lines().filter(is_row).collect();
    let expected: Vec<_> = renames()?.iter().map(Rename::in_changelog).collect();
    assert_eq!(listed, expected);
    Ok(())
}

#[test]
fn the_words_of_other_libraries_find_an_item_of_ours() -> Result {
    let (reactor, handlers) = (Sources::of("reactor")?, Sources::of("handlers")?);
    // An attribute of several lines has a word on each.
    let is_alias = |line: &&str| {
        let line = line.trim_start();
        line.starts_with("#[doc(alias") || line.starts_with('"')
    };
    let aliases: String = reactor
        .lines("")
        .chain(handlers.lines(""))
        .filter(is_alias)
        .collect();
    let words = [
        "bufferevent",
        "call_later",
        "call_soon",
        "ev_io",
        "ev_timer",
        "event_new",
        "insert_source",
        "interval",
        "register",
        "runInEventBaseThread",
        "sleep",
        "spawn_blocking",
        "uv_async_send",
        "uv_queue_work",
        "uv_timer_start",
    ];
    for word in words {
        assert!(
            aliases.contains(&format!("\"{word}\"")),
            "a search for {word} finds nothing"
        );
    }
    Ok(())
}
