//! The public items of a source file with their docs, and its functions with their lengths.
//!
//! Relies on the layout of rustfmt: an item ends with a line at its own indentation. `pub` means
//! public, since the lint `unreachable_pub` is on. Methods of a public trait and variants of a
//! public enum count too. Everything below `#[cfg(test)]` and a `mod` is left out.

use crate::prose::{Lines, doc_line, is_fence};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Function,
    Type,
    Other,
}

/// A public item.
#[derive(Debug)]
pub(crate) struct Item<'a> {
    pub(crate) kind: Kind,
    pub(crate) doc: Lines<'a>,
    /// From `pub` to the first brace or semicolon, on one line.
    pub(crate) signature: String,
}

impl Item<'_> {
    pub(crate) fn has_example(&self) -> bool {
        self.doc.iter().any(|(_, line)| is_fence(line))
    }

    pub(crate) fn has_heading(&self, heading: &str) -> bool {
        self.doc
            .iter()
            .any(|(_, line)| line.trim_start_matches('#').trim() == heading)
    }

    /// Returns whether the item is a function whose type of return is a `Result`.
    pub(crate) fn returns_result(&self) -> bool {
        let result = return_type(&self.signature).unwrap_or_default();
        let path = result.split('<').next().unwrap_or_default();
        self.kind == Kind::Function && path.rsplit("::").next() == Some("Result")
    }
}

/// Returns the type after the arrow of the function itself, not of a closure that it takes.
fn return_type(signature: &str) -> Option<String> {
    let marked = signature.replace("->", "\u{2192}");
    let mut depth = 0;
    for (at, character) in marked.char_indices() {
        match character {
            '(' | '[' | '<' => depth += 1,
            ')' | ']' | '>' => depth -= 1,
            '\u{2192}' if depth == 0 => {
                let after = marked.get(at + character.len_utf8()..)?;
                let after = after.split(" where").next()?;
                return Some(after.trim().trim_end_matches(['{', ';']).trim().to_owned());
            }
            _ => {}
        }
    }
    None
}

/// Returns the lines before the tests of a source file.
pub(crate) fn before_tests(source: &str) -> Vec<&str> {
    let lines: Vec<_> = source.lines().collect();
    let tests = lines
        .windows(2)
        .position(|pair| matches!(pair, [attribute, item] if *attribute == "#[cfg(test)]" && item.starts_with("mod ")));
    lines
        .into_iter()
        .take(tests.unwrap_or(usize::MAX))
        .collect()
}

fn indentation(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// Returns the public items of a source file.
pub(crate) fn items(source: &str) -> Vec<Item<'_>> {
    let lines = before_tests(source);
    let mut items = Vec::new();
    let mut doc: Lines<'_> = Vec::new();
    // The public trait or enum that the line is in: its indentation and whether it is a trait.
    let mut inside: Option<(usize, bool)> = None;
    let mut in_attribute = false;
    for (index, line) in lines.iter().enumerate() {
        let text = line.trim();
        if in_attribute {
            in_attribute = !text.ends_with(']');
        } else if let Some((_, text)) = doc_line(line).filter(|(marker, _)| *marker == "///") {
            doc.push((index + 1, text));
        } else if text.starts_with("#[") {
            in_attribute = !text.ends_with(']');
        } else {
            if inside.is_some_and(|(at, _)| indentation(line) <= at && !text.is_empty()) {
                inside = None;
            }
            if let Some(kind) = kind(line, inside) {
                let signature = signature(lines.get(index..).unwrap_or_default());
                let (is_trait, is_enum) =
                    (signature.contains("trait "), signature.contains("enum "));
                if kind == Kind::Type && (is_trait || is_enum) && signature.ends_with('{') {
                    inside = Some((indentation(line), is_trait));
                }
                items.push(Item {
                    kind,
                    doc: std::mem::take(&mut doc),
                    signature,
                });
            }
            doc.clear();
        }
    }
    items
}

/// Returns the kind of the public item that begins at this line, if one does.
fn kind(line: &str, inside: Option<(usize, bool)>) -> Option<Kind> {
    let text = line.trim_start();
    let item = match inside {
        _ if text.starts_with("pub ") => text.strip_prefix("pub ")?,
        Some((at, _)) if indentation(line) != at + 4 => return None,
        Some((_, false)) => return text.starts_with(char::is_uppercase).then_some(Kind::Other),
        Some((_, true)) if is_function(text) => text,
        _ => return None,
    };
    let is_type = ["struct ", "enum ", "trait ", "union "]
        .iter()
        .any(|word| item.starts_with(word));
    Some(match item {
        _ if is_type => Kind::Type,
        _ if is_function(item) => Kind::Function,
        _ => Kind::Other,
    })
}

/// Returns whether an item without its visibility is a function.
fn is_function(item: &str) -> bool {
    let words = item
        .split(' ')
        .find(|word| !["const", "async", "unsafe"].contains(word));
    words == Some("fn")
}

fn signature(lines: &[&str]) -> String {
    let mut signature = String::new();
    for line in lines {
        signature.push_str(line.trim());
        if let Some(brace) = signature.find('{') {
            signature.truncate(brace + 1);
            break;
        }
        if signature.ends_with([';', ',']) && !signature.contains('(') || signature.ends_with(';') {
            break;
        }
        signature.push(' ');
    }
    signature
}

/// Returns the length of each function in lines, from `fn` to its closing brace. Nested functions
/// and those of private types count too; declarations without a body do not.
pub(crate) fn function_lengths(source: &str) -> Vec<usize> {
    let lines = before_tests(source);
    let begins = |line: &str| {
        let text = line.trim_start();
        let item = match text.strip_prefix("pub") {
            Some(after) if after.starts_with('(') => {
                after.split_once(") ").map_or("", |(_, item)| item)
            }
            Some(after) => after.trim_start(),
            None => text,
        };
        is_function(item)
    };
    let starts = lines.iter().enumerate().filter(|(_, line)| begins(line));
    starts
        .filter_map(|(start, line)| length(lines.get(start..)?, indentation(line)))
        .collect()
}

/// Returns the number of lines up to the brace that closes the body at this indentation.
fn length(lines: &[&str], at: usize) -> Option<usize> {
    for (index, line) in lines.iter().enumerate() {
        if line.is_empty() || indentation(line) != at {
            continue;
        }
        match line.trim_end().chars().last() {
            Some('}') => return Some(index + 1),
            Some(';') => return None,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{Kind, function_lengths, items};

    const SOURCE: &str = "\
/// A type.
///
/// ```
/// use it;
/// ```
#[derive(Debug)]
pub struct Made {
    /// A field.
    pub field: u8,
    /// Not public.
    other: u8,
}

/// Private.
fn private() {
    call();
}

/// A trait.
pub trait Called<T>: Sized {
    /// Called.
    /// # Errors
    /// None.
    fn call(&mut self, with: impl FnOnce(u8) -> u8) -> io::Result<()> {
        if true {}
    }
    /// Declared.
    fn declared(
        &self,
    ) -> Option<Result<u8>>;
}

pub enum Choice {
    /// One.
    One,
    /// Two.
    Two { of: u8 },
}

impl Made {
    /// Returns.
    pub const fn short(f: impl FnOnce() -> Result) -> u8 { 1 }
    pub(crate) fn hidden() {}
}

#[cfg(test)]
mod tests {
    pub fn left_out() {
    }
}
";

    #[test]
    fn public_items_are_found_with_their_docs() {
        let found: Vec<_> = items(SOURCE)
            .iter()
            .map(|item| (item.kind, item.doc.first().map_or("", |(_, line)| line)))
            .map(|(kind, line)| (kind, line.to_owned()))
            .collect();
        let item = |kind, line: &str| (kind, line.to_owned());
        assert_eq!(
            found,
            [
                item(Kind::Type, "A type."),
                item(Kind::Other, "A field."),
                item(Kind::Type, "A trait."),
                item(Kind::Function, "Called."),
                item(Kind::Function, "Declared."),
                item(Kind::Type, ""),
                item(Kind::Other, "One."),
                item(Kind::Other, "Two."),
                item(Kind::Function, "Returns."),
            ]
        );
    }

    #[test]
    fn examples_headings_and_results_are_recognised() {
        let items = items(SOURCE);
        assert!(
            items
                .iter()
                .map(|item| item.has_example())
                .eq([true].into_iter().chain([false; 8]))
        );
        let results: Vec<_> = items.iter().filter(|item| item.returns_result()).collect();
        assert!(
            matches!(&*results, [call] if call.has_heading("Errors")),
            "{results:?}"
        );
    }

    #[test]
    fn functions_are_measured_from_signature_to_brace() {
        assert_eq!(function_lengths(SOURCE), [3, 3, 1, 1]);
    }
}
