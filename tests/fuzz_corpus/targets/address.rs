//! Addresses that a user writes: each is shown on one line, as it is parsed.

use arbitrary::{Result, Unstructured};
use handlers::Address;

pub(super) fn run(u: &mut Unstructured<'_>) -> Result<()> {
    let bytes = u.bytes(u.len())?;
    let text = String::from_utf8_lossy(bytes);
    match text.parse::<Address>() {
        Ok(address) => {
            let shown = address.to_string();
            assert!(!shown.contains(char::is_control), "{shown:?}");
            if !text.contains(char::is_control) {
                assert_eq!(shown.parse(), Ok(address), "{shown}");
            }
        }
        Err(error) => {
            assert_eq!(error.text(), text);
            assert!(!error.to_string().contains(char::is_control), "{error}");
        }
    }
    Ok(())
}
