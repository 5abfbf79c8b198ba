//! The recipe "An upstream that reconnects" of `docs/recipes.md`, as the page prints it.

include!("../../../recipes/upstream.rs");

mod simulated;
