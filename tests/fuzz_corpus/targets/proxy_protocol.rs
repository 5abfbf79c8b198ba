//! Bytes at the beginning of a connection, which may be a PROXY header.

use arbitrary::{Result, Unstructured};
use handlers::proxy_protocol::{Addresses, Header, HeaderError, MAX_LENGTH, Progress};

use super::cut;

pub(super) fn run(u: &mut Unstructured<'_>) -> Result<()> {
    let bytes = super::bytes(u, MAX_LENGTH + 100)?;
    let at_once = Header::parse(bytes);
    if let Ok(Progress::Complete { header, length }) = &at_once {
        assert!(*length <= bytes.len().min(MAX_LENGTH));
        assert_eq!(read_exactly(bytes), Ok(*length), "{bytes:?}");
        expect_encoded_again(header);
    }
    if let Ok(Progress::Incomplete(more)) = at_once {
        assert!(more > 0 && bytes.len() + more <= MAX_LENGTH, "{more}");
    }
    expect_no_end_before(bytes, &at_once, u)
}

/// Reads no byte after the header, as a listener does. Returns the number of bytes read.
fn read_exactly(bytes: &[u8]) -> std::result::Result<usize, HeaderError> {
    let mut read = 0;
    while let Progress::Incomplete(more) = Header::parse(&bytes[..read])? {
        read += more;
    }
    Ok(read)
}

/// Parses the bytes in pieces. A beginning of them is not refused if all of them are a header.
fn expect_no_end_before(
    bytes: &[u8],
    at_once: &std::result::Result<Progress, HeaderError>,
    u: &mut Unstructured<'_>,
) -> Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        rest = cut(rest, u)?.1;
        let begun = Header::parse(&bytes[..bytes.len() - rest.len()]);
        match begun {
            Ok(Progress::Incomplete(_)) => {}
            ended => {
                assert_eq!(ended.is_ok(), at_once.is_ok());
                break;
            }
        }
    }
    Ok(())
}

fn expect_encoded_again(header: &Header) {
    let again = Header::parse(&header.to_v2());
    let length = header.to_v2().len();
    let complete = Progress::Complete {
        header: header.clone(),
        length,
    };
    assert_eq!(again, Ok(complete));
    let line = Header::parse(&header.to_v1());
    let Ok(Progress::Complete { header: line, .. }) = line else {
        panic!("{line:?}");
    };
    match header.addresses() {
        Addresses::Internet { .. } => assert_eq!(line.addresses(), header.addresses()),
        _ => assert_eq!(line.addresses(), &Addresses::Unknown),
    }
}
