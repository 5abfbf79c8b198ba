//! The check of a user's own framing: it passes a correct one, and names the fault of a wrong one.

#![cfg(feature = "framing")]

use handlers::{
    Delimited, Frame, FrameError, Framing, FramingFault, LengthPrefix, LengthPrefixed, Lines,
    check_framing,
};

/// Words that end with a full stop, and the fault of this framing of them.
#[derive(Clone, Copy)]
struct Words {
    wrong: Wrong,
    /// Bytes of a word that were searched without result.
    searched: usize,
    errors: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Wrong {
    Nothing,
    /// The count of searched bytes is reset by the next word, not at its beginning.
    SearchedOfTheLastWord,
    /// The last of several words in one piece is lost.
    OneWordAtATime,
    TakesNothing,
    TakesTooMuch,
    LosesTheRest,
    ForgetsErrors,
    PutsNoEnd,
    PutsTwoEnds,
    PutsMore,
    PutsIntoNothing,
    RefusesTooLate,
}

const BAD: FrameError = FrameError::Malformed("a word has a dash");

impl Words {
    const fn new(wrong: Wrong) -> Self {
        Self {
            wrong,
            searched: 0,
            errors: 0,
        }
    }
}

impl Framing for Words {
    fn decode<'a>(&mut self, data: &'a [u8]) -> Result<Option<Frame<'a>>, FrameError> {
        let Some(found) = data[self.searched.min(data.len())..]
            .iter()
            .position(|byte| *byte == b'.')
        else {
            self.searched = data.len();
            return Ok(None);
        };
        let end = self.searched + found;
        if self.wrong != Wrong::SearchedOfTheLastWord {
            self.searched = 0;
        }
        if self.wrong == Wrong::OneWordAtATime && data.len() > end + 1 {
            return Ok(Some(Frame {
                bytes: &data[..end],
                consumed: data.len(),
            }));
        }
        let bytes = &data[..end];
        if bytes.contains(&b'-') {
            self.errors += 1;
            let forgotten = self.wrong == Wrong::ForgetsErrors && self.errors > 1;
            return if forgotten { Ok(None) } else { Err(BAD) };
        }
        let taken = match self.wrong {
            Wrong::TakesNothing => 0,
            Wrong::TakesTooMuch => data.len() + 1,
            _ => end + 1,
        };
        Ok(Some(Frame {
            bytes,
            consumed: taken,
        }))
    }

    fn decode_eof<'a>(&mut self, rest: &'a [u8]) -> Result<Option<Frame<'a>>, FrameError> {
        match self.decode(rest)? {
            None if !rest.is_empty() && self.wrong != Wrong::LosesTheRest => {
                Err(FrameError::Truncated { missing: None })
            }
            word => Ok(word),
        }
    }

    fn encode(&self, word: &[u8], out: &mut Vec<u8>) -> Result<(), FrameError> {
        if self.wrong == Wrong::PutsIntoNothing {
            out.clear();
        }
        out.extend_from_slice(word);
        if self.wrong == Wrong::RefusesTooLate {
            return Err(BAD);
        }
        out.extend_from_slice(match self.wrong {
            Wrong::PutsNoEnd => b"",
            Wrong::PutsTwoEnds => b"..",
            Wrong::PutsMore => b".more",
            _ => b".",
        });
        Ok(())
    }
}

fn fault(wrong: Wrong, stream: &[u8]) -> Option<FramingFault> {
    check_framing(|| Words::new(wrong), stream).err()
}

#[test]
fn a_correct_framing_passes_with_the_frames_of_the_stream() {
    let found = check_framing(|| Words::new(Wrong::Nothing), b"a.bc..d").unwrap();
    assert_eq!(found.frames, [b"a".as_slice(), b"bc", b""]);
    assert_eq!(found.error, Some(FrameError::Truncated { missing: None }));
    assert_eq!(
        found.to_string(),
        r#"["a", "bc", ""] and the error "the stream ended within the length of a frame""#
    );
    let found = check_framing(|| Words::new(Wrong::Nothing), b"a.b-c.d.").unwrap();
    assert_eq!((found.frames.len(), found.error), (1, Some(BAD)));
    for empty in [b"".as_slice(), b"."] {
        assert_eq!(
            check_framing(|| Words::new(Wrong::Nothing), empty)
                .unwrap()
                .frames
                .len(),
            empty.len()
        );
    }
}

#[test]
fn a_framing_whose_frames_depend_on_the_cuts_is_refused_with_them() {
    let long = b"some words. a. that are more bytes than all cuts can be tried of.";
    for (wrong, stream) in [
        (Wrong::SearchedOfTheLastWord, b"ab..".as_slice()),
        (Wrong::SearchedOfTheLastWord, long),
        (Wrong::OneWordAtATime, b"a.b."),
        (Wrong::OneWordAtATime, long),
    ] {
        let Some(FramingFault::Cut {
            cuts,
            found,
            in_one_piece,
        }) = fault(wrong, stream)
        else {
            panic!("it passes {}", stream.escape_ascii())
        };
        assert!(!cuts.is_empty() && cuts.iter().all(|cut| (1..stream.len()).contains(cut)));
        assert_ne!(found, in_one_piece);
    }
}

#[test]
fn a_framing_that_breaks_its_contract_is_refused_with_the_reason() {
    assert_eq!(
        fault(Wrong::TakesNothing, b"ab."),
        Some(FramingFault::Consumed {
            consumed: 0,
            available: 3
        })
    );
    assert_eq!(
        fault(Wrong::TakesTooMuch, b"ab."),
        Some(FramingFault::Consumed {
            consumed: 4,
            available: 3
        })
    );
    assert_eq!(
        fault(Wrong::LosesTheRest, b"ab.cd"),
        Some(FramingFault::Unfinished { left: 2 })
    );
    assert_eq!(
        fault(Wrong::ForgetsErrors, b"a-b."),
        Some(FramingFault::ErrorForgotten { error: BAD })
    );
    let frame = b"ab".to_vec();
    for wrong in [Wrong::PutsNoEnd, Wrong::PutsTwoEnds, Wrong::PutsMore] {
        assert!(
            matches!(fault(wrong, b"ab."), Some(FramingFault::NotReadBack { frame: put, .. }) if put == frame)
        );
    }
    for wrong in [Wrong::PutsIntoNothing, Wrong::RefusesTooLate] {
        assert_eq!(
            fault(wrong, b"ab."),
            Some(FramingFault::OutputSpoiled {
                frame: frame.clone()
            })
        );
    }
}

#[test]
fn the_text_of_a_fault_shows_the_frames_and_the_number_of_bytes() {
    for (wrong, stream, text) in [
        (Wrong::TakesTooMuch, "ab.", "a frame takes 4 of 3 bytes"),
        (Wrong::LosesTheRest, "ab.cd", "2 bytes are left at the end"),
        (Wrong::ForgetsErrors, "a-b.", "\"a word has a dash\""),
        (Wrong::PutsTwoEnds, "ab.", r#"["ab", ""] is read back"#),
        (
            Wrong::RefusesTooLate,
            "ab.",
            "the frame \"ab\" changes bytes",
        ),
        (
            Wrong::OneWordAtATime,
            "a.b.",
            r#"read as ["a", "b"]; in one piece it is read as ["a"]"#,
        ),
    ] {
        let fault = fault(wrong, stream.as_bytes()).unwrap().to_string();
        assert!(fault.contains(text), "{fault}");
    }
}

#[test]
fn the_framings_of_this_library_pass_on_streams_of_any_length() {
    let text = "a line\r\nand another\n\nand a last one\r".repeat(4);
    assert_eq!(
        check_framing(|| Lines::new(40), text.as_bytes()).map(|found| found.frames.len()),
        Ok(13)
    );
    assert_eq!(
        check_framing(|| Delimited::new("\n\n", 200), text.as_bytes())
            .map(|found| found.frames.len()),
        Ok(5)
    );
    let mut stream = Vec::new();
    for length in [0, 1, 127, 128, 300] {
        LengthPrefixed::new(LengthPrefix::Varint, 300)
            .encode(&vec![7; length], &mut stream)
            .unwrap();
    }
    let found = check_framing(|| LengthPrefixed::new(LengthPrefix::Varint, 300), &stream).unwrap();
    assert_eq!((found.frames.len(), found.error), (5, None));
}
