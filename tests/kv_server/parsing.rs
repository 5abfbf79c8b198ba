//! The parser: it finds the same commands however the input is cut, and trusts no more than Redis
//! does.

use proptest::prelude::*;

use crate::protocol::{LINE_MAX, Limits, Parser, Replies, integer};

fn limits() -> Limits {
    Limits {
        max_arguments: 50,
        max_argument: 100_000,
        max_key: 100,
        max_value: 1000,
    }
}

/// Returns every command in `pieces`, and the error at their end, if there is one.
fn parse(pieces: &[&[u8]]) -> (Vec<Vec<Vec<u8>>>, Option<String>) {
    let (mut parser, mut commands, mut data) = (Parser::default(), Vec::new(), Vec::new());
    for piece in pieces {
        data.extend_from_slice(piece);
        loop {
            let mut words = Vec::new();
            let length = match parser.parse(&data, &limits(), &mut words) {
                Ok(Some(length)) => {
                    commands.push(words.into_iter().map(<[u8]>::to_vec).collect());
                    length
                }
                Ok(None) => break,
                Err(refusal) => return (commands, Some(refusal.into_owned())),
            };
            data.drain(..length);
        }
    }
    (commands, None)
}

/// Returns the same bytes in pieces that end at `cuts`, in thousandths of the whole.
fn cut<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut ends: Vec<_> = cuts
        .iter()
        .map(|cut| bytes.len() * cut / 1000)
        .chain([0, bytes.len()])
        .collect();
    ends.sort_unstable();
    ends.windows(2)
        .map(|ends| &bytes[ends[0]..ends[1]])
        .collect()
}

fn encode(command: &[Vec<u8>]) -> Vec<u8> {
    let mut encoded = Replies::default();
    encoded.strings(&command.iter().map(Vec::as_slice).collect::<Vec<_>>());
    encoded.bytes
}

fn error(bytes: &[u8]) -> String {
    parse(&[bytes]).1.unwrap_or_default()
}

/// Returns the words of the one command in `line`.
fn words(line: &str) -> Vec<String> {
    let (commands, error) = parse(&[line.as_bytes(), b"\r\n"]);
    assert_eq!((commands.len(), error), (1, None), "{line}");
    commands[0]
        .iter()
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect()
}

/// Returns bytes that are closer to the protocol than random ones.
fn near_protocol() -> impl Strategy<Value = Vec<u8>> {
    let token = prop_oneof![
        prop::sample::select(vec![
            "*", "$", "\r", "\n", "\r\n", "1", "2", "3", "-1", "0", "\"", "'", "\\", " ", "x"
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        (0..4_usize).prop_map(|count| format!("*{count}\r\n").into_bytes()),
        (0..9_usize).prop_map(|length| [
            format!("${length}\r\n").as_bytes(),
            &vec![b'v'; length],
            b"\r\n"
        ]
        .concat()),
        prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop::collection::vec(token, 0..40).prop_map(|tokens| tokens.concat())
}

proptest! {
    #[test]
    fn commands_that_were_encoded_are_found_again_wherever_they_are_cut(
        commands in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 0..30), 1..6), 0..8),
        cuts in prop::collection::vec(0..1000_usize, 0..20),
    ) {
        let bytes: Vec<u8> = commands.iter().flat_map(|command| encode(command)).collect();
        prop_assert_eq!(parse(&cut(&bytes, &cuts)), (commands, None));
    }

    #[test]
    fn replies_do_not_depend_on_how_the_input_is_cut(
        bytes in near_protocol(),
        cuts in prop::collection::vec(0..1000_usize, 0..20),
    ) {
        let whole = parse(&[&bytes]);
        prop_assert_eq!(parse(&cut(&bytes, &cuts)), whole.clone());
        let single: Vec<_> = bytes.chunks(1).collect();
        prop_assert_eq!(parse(&single), whole);
    }

    #[test]
    fn any_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..300), starred in any::<bool>()) {
        let bytes = if starred { [b"*3\r\n$", &bytes[..]].concat() } else { bytes };
        parse(&bytes.chunks(7).collect::<Vec<_>>());
    }

    #[test]
    fn numbers_are_read_as_they_are_written(number in any::<i64>()) {
        prop_assert_eq!(integer(number.to_string().as_bytes()), Some(number));
    }
}

#[test]
fn a_number_has_one_spelling() {
    for bad in [
        "",
        "-",
        "+1",
        "01",
        "-0",
        "-01",
        " 1",
        "1 ",
        "1_0",
        "1.0",
        "9223372036854775808",
        "-9223372036854775809",
    ] {
        assert_eq!(integer(bad.as_bytes()), None, "{bad}");
    }
    assert_eq!(integer(b"0"), Some(0));
}

#[test]
fn an_invalid_command_is_refused_in_the_words_of_redis() {
    for bad in [
        "*x\r\n",
        "*\r\n",
        "*01\r\n",
        "* 1\r\n",
        "*51\r\n",
        "*99999999999999999999\r\n",
    ] {
        assert_eq!(error(bad.as_bytes()), "invalid multibulk length", "{bad}");
    }
    for bad in ["x", "-1", "", "04", "100001", "99999999999999999999"] {
        assert_eq!(
            error(format!("*1\r\n${bad}\r\n").as_bytes()),
            "invalid bulk length",
            "{bad}"
        );
    }
    assert_eq!(error(b"*1\r\nPING\r\n"), "expected '$', got 'P'");
    assert_eq!(error(b"set a \"b\r\n"), "unbalanced quotes in request");
    assert_eq!(error(b"set a 'b'c\r\n"), "unbalanced quotes in request");
    assert_eq!(error(&[b'1'; LINE_MAX + 1]), "too big inline request");
    assert_eq!(
        error(&[b"*", &[b'1'; LINE_MAX][..]].concat()),
        "too big mbulk count string"
    );
    assert_eq!(
        error(&[b"*1\r\n$", &[b'1'; LINE_MAX][..]].concat()),
        "too big bulk count string"
    );
    assert_eq!(error("a ".repeat(51).as_bytes()), "");
    assert_eq!(
        error(format!("{}\n", "a ".repeat(51)).as_bytes()),
        "invalid multibulk length"
    );
}

#[test]
fn a_command_of_no_arguments_is_passed_over() {
    for nothing in ["*0\r\n", "*-1\r\n", "\r\n", "\n", "  \r\n"] {
        let (commands, error) = parse(&[nothing.as_bytes(), b"PING\r\n"]);
        assert_eq!(
            (commands, error),
            (vec![vec![], vec![b"PING".to_vec()]], None),
            "{nothing:?}"
        );
    }
}

#[test]
fn a_line_is_split_at_spaces_outside_of_quotes() {
    assert_eq!(words("set  key value "), ["set", "key", "value"]);
    assert_eq!(words("set 'a b' \"c d\""), ["set", "a b", "c d"]);
    assert_eq!(
        words(r#"echo 'say "hi"' "it's" "" ''"#),
        ["echo", "say \"hi\"", "it's", "", ""]
    );
    assert_eq!(
        words("echo it's \\n"),
        ["echo", "it's", "\\n"],
        "within a word a quote is none, and there are no escapes"
    );
}

#[test]
fn a_long_value_that_comes_in_pieces_is_not_looked_at_again() {
    let mut parser = Parser::default();
    let limits = Limits {
        max_argument: 1 << 20,
        ..limits()
    };
    let command = encode(&[b"SET".to_vec(), b"k".to_vec(), vec![b'*'; 1 << 20]]);
    for end in (0..command.len()).step_by(4096) {
        // Parsed bytes may even be overwritten: they are not read again.
        let mut spoilt = command[..end].to_vec();
        let understood = end.min(20);
        if end > 4096 {
            spoilt[..understood].fill(0);
        }
        assert!(
            parser
                .parse(&spoilt, &limits, &mut Vec::new())
                .unwrap()
                .is_none()
        );
    }
    let mut words = Vec::new();
    assert_eq!(
        parser.parse(&command, &limits, &mut words),
        Ok(Some(command.len()))
    );
    assert_eq!((words.len(), words[2].len()), (3, 1 << 20));
}

/// The test changes parsed bytes, which a second search would find.
#[test]
fn a_line_that_comes_in_pieces_is_not_searched_again() {
    let mut parser = Parser::default();
    for length in 1..50 {
        assert_eq!(
            parser.parse(&vec![b'x'; length], &limits(), &mut Vec::new()),
            Ok(None)
        );
    }
    let swapped = [&[b'\n'; 49][..], b"\r\n"].concat();
    assert_eq!(
        parser.parse(&swapped, &limits(), &mut Vec::new()),
        Ok(Some(51))
    );
}
