//! The lengths of TLS records.

/// The bytes of a record before its content: its type, the version and the length.
const HEADER: usize = 5;
/// The bytes of its content that are no plaintext: the true type and the tag.
const TAG: usize = 1 + 16;
/// The most plaintext of a record.
const FRAGMENT: usize = 1 << 14;

/// Returns the length of the records of a message.
pub(super) const fn sealed_len(message: usize) -> usize {
    message + message.div_ceil(FRAGMENT) * (HEADER + TAG)
}

/// Counts the plaintext of records of TLS 1.3 without their keys, each when it is complete.
#[derive(Default)]
pub(super) struct Records {
    /// The header so far, and the bytes of it that are known.
    header: [u8; HEADER],
    known: usize,
    /// The bytes of the record that are still missing after its header.
    missing: usize,
}

impl Records {
    /// Takes ciphertext. Returns the length of the plaintext of all records that it completes.
    pub(super) fn count(&mut self, mut ciphertext: &[u8]) -> usize {
        let mut plaintext = 0;
        while !ciphertext.is_empty() {
            if self.known < HEADER {
                self.header[self.known] = ciphertext[0];
                self.known += 1;
                ciphertext = &ciphertext[1..];
                self.missing = self.content();
                continue;
            }
            let taken = self.missing.min(ciphertext.len());
            self.missing -= taken;
            ciphertext = &ciphertext[taken..];
            if self.missing == 0 {
                plaintext += self.content().saturating_sub(TAG);
                self.known = 0;
            }
        }
        plaintext
    }

    /// Returns the length of the content that the header tells.
    fn content(&self) -> usize {
        usize::from(u16::from_be_bytes([self.header[3], self.header[4]]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plaintext_is_counted_when_its_record_is_complete_however_it_is_cut() {
        let record = |plaintext: usize| {
            let [high, low] = u16::try_from(plaintext + TAG).unwrap().to_be_bytes();
            [&[23, 3, 3, high, low][..], &vec![0; plaintext + TAG]].concat()
        };
        let ciphertext = [record(64), record(1), record(FRAGMENT)].concat();
        assert_eq!(
            ciphertext.len(),
            sealed_len(64) + sealed_len(1) + sealed_len(FRAGMENT)
        );
        for cut in [1, 3, 86, ciphertext.len()] {
            let mut records = Records::default();
            let counts: Vec<_> = ciphertext
                .chunks(cut)
                .map(|part| records.count(part))
                .collect();
            assert_eq!(counts.iter().sum::<usize>(), 64 + 1 + FRAGMENT, "{cut}");
            assert!(*counts.last().unwrap() >= FRAGMENT, "{cut}");
        }
    }
}
