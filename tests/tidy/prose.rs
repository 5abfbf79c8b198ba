//! Prose, taken out of Markdown and of doc comments.
//!
//! Reads line by line: a doc comment is a run of lines that begin with `///` or `//!`.
//! Code blocks are left out.

/// The role of a block: a part of the text, a heading, or a cell of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Heading,
    Cell,
}

/// A paragraph, an item of a list, a heading, or a cell of a table.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) line: usize,
    pub(crate) kind: Kind,
    pub(crate) text: String,
}

/// Numbered lines of a page, or of a doc comment without its markers.
pub(crate) type Lines<'a> = Vec<(usize, &'a str)>;

pub(crate) fn numbered(page: &str) -> Lines<'_> {
    (1..).zip(page.lines()).collect()
}

/// Returns the doc comments of a source file, each as its lines without `///` or `//!`.
pub(crate) fn doc_comments(source: &str) -> Vec<Lines<'_>> {
    let mut comments: Vec<Lines<'_>> = Vec::new();
    let mut before = None;
    for (number, line) in (1..).zip(source.lines()) {
        let marked = doc_line(line);
        if let Some((marker, text)) = marked {
            match comments.last_mut() {
                Some(comment) if before == Some(marker) => comment.push((number, text)),
                _ => comments.push(vec![(number, text)]),
            }
        }
        before = marked.map(|(marker, _)| marker);
    }
    comments
}

/// Splits a line of a doc comment into marker and text.
pub(crate) fn doc_line(line: &str) -> Option<(&'static str, &str)> {
    let line = line.trim_start();
    let marker = if line.starts_with("///") && !line.starts_with("////") {
        "///"
    } else if line.starts_with("//!") {
        "//!"
    } else {
        return None;
    };
    let text = line.get(marker.len()..)?;
    Some((marker, text.strip_prefix(' ').unwrap_or(text)))
}

pub(crate) fn is_fence(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("```") || line.starts_with("~~~")
}

/// Returns the lines outside of code blocks.
pub(crate) fn without_code<'a>(lines: &[(usize, &'a str)]) -> Lines<'a> {
    let mut in_code = false;
    let mut left = Vec::new();
    for (number, line) in lines {
        if is_fence(line) {
            in_code = !in_code;
        } else if !in_code {
            left.push((*number, *line));
        }
    }
    left
}

/// Returns the blocks of a page or of a doc comment.
pub(crate) fn blocks(lines: &[(usize, &str)]) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut open = false; // whether the next line continues the last block
    for (line, text) in without_code(lines) {
        let text = text.trim();
        let add = |kind, text: &str| Block {
            line,
            kind,
            text: text.to_owned(),
        };
        if text.is_empty() || is_reference(text) {
            open = false;
        } else if text.starts_with('#') {
            blocks.push(add(Kind::Heading, text.trim_start_matches('#').trim()));
            open = false;
        } else if text.starts_with('|') {
            let is_rule = text.chars().all(|character| "|-: ".contains(character));
            let cells = text
                .split('|')
                .map(str::trim)
                .filter(|cell| !cell.is_empty() && !is_rule);
            blocks.extend(cells.map(|cell| add(Kind::Cell, cell)));
            open = false;
        } else if let Some(item) = list_item(text) {
            blocks.push(add(Kind::Text, item));
            open = true;
        } else {
            match blocks.last_mut() {
                Some(last) if open => {
                    last.text.push('\n');
                    last.text.push_str(text);
                }
                _ => blocks.push(add(Kind::Text, text)),
            }
            open = true;
        }
    }
    blocks
}

/// Returns whether a line is the target of a link, `[name]: target`.
fn is_reference(line: &str) -> bool {
    line.starts_with('[') && line.contains("]: ") && !line.contains("](")
}

fn list_item(line: &str) -> Option<&str> {
    let after = ["- ", "* ", "+ "]
        .iter()
        .find_map(|bullet| line.strip_prefix(bullet));
    after.or_else(|| {
        let (number, after) = line.split_once(". ")?;
        let is_number = number.len() < 3 && number.chars().all(|digit| digit.is_ascii_digit());
        (is_number && !number.is_empty()).then_some(after)
    })
}

/// Returns the sentences of a block with their lines. A full stop ends a sentence unless it stands
/// in a code span, or a small letter follows.
pub(crate) fn sentences(block: &Block) -> Vec<(usize, &str)> {
    let text = block.text.as_str();
    let (mut found, mut start, mut in_code) = (Vec::new(), 0, false);
    for (at, character) in text.char_indices() {
        in_code ^= character == '`';
        let end = at + character.len_utf8();
        if !in_code && ".!?".contains(character) && ends_here(text, end) {
            found.push((start, end));
            start = end;
        }
    }
    found.push((start, text.len()));
    let with_line = |(start, end)| {
        let sentence: &str = text.get(start..end)?;
        let lead = sentence.len() - sentence.trim_start_matches(CLOSING).trim_start().len();
        let line = block.line + text.get(..start + lead)?.matches('\n').count();
        let sentence = sentence.get(lead..)?.trim();
        (!sentence.is_empty()).then_some((line, sentence))
    };
    found.into_iter().filter_map(with_line).collect()
}

/// Characters that may stand between a full stop and the next sentence.
const CLOSING: [char; 5] = [')', '"', '*', '_', ']'];

fn ends_here(text: &str, end: usize) -> bool {
    let (before, after) = text.split_at(end);
    if before.ends_with("e.g.") || before.ends_with("i.e.") {
        return false;
    }
    let after = after.trim_start_matches(CLOSING);
    let next = after.trim_start().chars().next();
    after.starts_with(char::is_whitespace) && next.is_some_and(|next| !next.is_lowercase())
}

/// Returns the first word in small letters, or `None` for a sentence that begins with code.
pub(crate) fn first_word(sentence: &str) -> Option<String> {
    let start = sentence.trim_start_matches(['*', '_', '"', '(', '[', '\u{201c}']);
    let word: String = start
        .chars()
        .take_while(|letter| letter.is_alphabetic())
        .collect();
    (!word.is_empty()).then(|| word.to_lowercase())
}

/// Returns the code spans of a text.
pub(crate) fn code_spans(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Returns the text with each code span replaced by one word, and links by what they show.
pub(crate) fn plain(text: &str) -> String {
    let mut plain = String::new();
    for (index, part) in text.split('`').enumerate() {
        plain.push_str(if index % 2 == 1 { "code" } else { part });
    }
    while let Some((before, rest)) = plain.split_once("](") {
        let after = rest.split_once(')').map_or("", |(_, after)| after);
        plain = format!("{before}] {after}");
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::{Kind, blocks, code_spans, doc_comments, first_word, numbered, plain, sentences};

    const PAGE: &str = "# Title\n\nOne `a.b`. Two\nthree! e.g. Four.\n\n- item one\n  goes on\n\
        - item two\n\n| head | more |\n|---|---|\n| cell |\n\n```sh\ncode. Code.\n```\n[x]: y";

    #[test]
    fn a_page_is_split_into_its_blocks_and_code_is_left_out() {
        let found: Vec<_> = blocks(&numbered(PAGE))
            .into_iter()
            .map(|block| (block.line, block.kind, block.text))
            .collect();
        let block = |line, kind, text: &str| (line, kind, text.to_owned());
        assert_eq!(
            found,
            [
                block(1, Kind::Heading, "Title"),
                block(3, Kind::Text, "One `a.b`. Two\nthree! e.g. Four."),
                block(6, Kind::Text, "item one\ngoes on"),
                block(8, Kind::Text, "item two"),
                block(10, Kind::Cell, "head"),
                block(10, Kind::Cell, "more"),
                block(12, Kind::Cell, "cell"),
            ]
        );
    }

    #[test]
    fn sentences_end_at_full_stops_outside_code_and_know_their_lines() {
        let page = numbered(PAGE);
        let blocks = blocks(&page);
        let found: Vec<_> = blocks.iter().skip(1).take(1).flat_map(sentences).collect();
        assert_eq!(found, [(3, "One `a.b`."), (3, "Two\nthree! e.g. Four.")]);
    }

    #[test]
    fn doc_comments_of_two_kinds_are_two() {
        let source = "//! a\n//!\n//! b\n/// c\nfn x() {\n    // d\n    /// e\n    f();\n}";
        let found = doc_comments(source);
        assert_eq!(
            found,
            [
                vec![(1, "a"), (2, ""), (3, "b")],
                vec![(4, "c")],
                vec![(7, "e")]
            ]
        );
    }

    #[test]
    fn words_code_and_links_are_told_apart() {
        assert_eq!(first_word("**Who** waits").as_deref(), Some("who"));
        assert_eq!(first_word("`who` waits"), None);
        assert_eq!(
            code_spans("a `b c` d `e`").collect::<Vec<_>>(),
            ["b c", "e"]
        );
        assert_eq!(plain("a [`b c`](d.md) e"), "a [code]  e");
    }
}
