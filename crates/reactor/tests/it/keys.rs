//! Every key can be kept, compared, hashed and displayed.

use std::collections::HashSet;
use std::fmt::{Debug, Display};
use std::hash::Hash;
use std::time::Duration;

use reactor::{Error, Key, Next, Reactor, Then};

use crate::Result;

#[test]
fn every_key_is_shown_as_the_key_of_its_stale_error() -> Result {
    let mut reactor = Reactor::<()>::new()?;
    let timer = reactor.after(Duration::MAX, |_cx| Ok(Then::Done));
    let hook = reactor.before_wait(|_cx| Ok(Next::Keep));
    is_shown_as_its_stale_error(timer);
    is_shown_as_its_stale_error(hook);
    is_shown_as_its_stale_error(Key::from(timer));
    Ok(())
}

#[track_caller]
fn is_shown_as_its_stale_error<K: Copy + Debug + Display + Eq + Hash + Into<Key>>(key: K) {
    let error = Error::StaleKey(key.into()).to_string();
    assert_eq!(
        error,
        format!("key {key} is stale: its registration has ended")
    );
    assert!(HashSet::from([key]).contains(&key));
}
