//! The console: the lines of an input that is cut at any place, compared with those of a naive
//! reader, while the console pauses and goes on.

use std::io::{Write, pipe};

use arbitrary::{Result, Unstructured};
use handlers::{Console, ConsoleInput};
use reactor::{Interest, ManualClock, Next, Reactor};

use super::{bytes, cut, run_until_idle};

const INPUT_MAX: usize = 1000;

#[derive(Debug, PartialEq)]
enum Line {
    Text(String),
    NotText(Vec<u8>),
    TooLong,
}

/// Splits the whole input at once.
fn naive(input: &[u8], max_length: usize) -> Vec<Line> {
    let mut lines: Vec<_> = input.split_inclusive(|byte| *byte == b'\n').collect();
    for line in &mut lines {
        if let Some(ended) = line.strip_suffix(b"\n") {
            *line = ended.strip_suffix(b"\r").unwrap_or(ended);
        }
    }
    let line = |line: &[u8]| match String::from_utf8(line.to_vec()) {
        _ if line.len() > max_length => Line::TooLong,
        Ok(text) => Line::Text(text),
        Err(_) => Line::NotText(line.to_vec()),
    };
    lines.into_iter().map(line).collect()
}

pub(super) fn run(u: &mut Unstructured<'_>) -> Result<()> {
    let max_length = usize::from(u.arbitrary::<u8>()?);
    let input = bytes(u, INPUT_MAX)?;
    let (reader, mut writer) = pipe().unwrap();
    let mut reactor = Reactor::<(Vec<Line>, usize)>::builder()
        .clock(ManualClock::new())
        .build()
        .unwrap();
    let console = Console::new().max_line_length(max_length);
    let key = console.open_on(&mut reactor, &reader, |input, cx| {
        let (lines, ends) = &mut *cx.state;
        match input {
            ConsoleInput::Line(line) => lines.push(Line::Text(line.to_owned())),
            ConsoleInput::NotText(line) => lines.push(Line::NotText(line.to_owned())),
            ConsoleInput::TooLong => lines.push(Line::TooLong),
            ConsoleInput::End => *ends += 1,
            ConsoleInput::Failed(error) => panic!("{error}"),
        }
        if lines.len().is_multiple_of(7) && *ends == 0 {
            cx.registry.set_interest(cx.key(), Interest::NONE)?;
        }
        Ok(Next::Keep)
    });
    let key = key.unwrap();
    let (mut told, mut rest) = ((Vec::new(), 0), input);
    while !rest.is_empty() {
        let (piece, behind) = cut(rest, u)?;
        writer.write_all(piece).unwrap();
        rest = behind;
        run_until_idle(&mut reactor, &mut told);
        assert_eq!(told.1, 0, "there is a writer");
        reactor.set_interest(key, Interest::READABLE).unwrap();
    }
    drop(writer);
    while reactor.contains(key) {
        let before = told.0.len();
        run_until_idle(&mut reactor, &mut told);
        if reactor.contains(key) {
            assert!(told.0.len() > before, "it stays without a line or an end");
            reactor.set_interest(key, Interest::READABLE).unwrap();
        }
    }
    assert_eq!(told, (naive(input, max_length), 1));
    Ok(())
}
