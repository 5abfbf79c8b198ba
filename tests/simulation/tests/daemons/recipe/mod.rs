//! The recipe "Simulate your own daemon" of `docs/recipes.md`, as the page prints it.

mod shout;

#[test]
fn the_recipe_that_is_printed_is_the_one_that_runs() {
    let page = include_str!("../../../../../docs/recipes.md");
    let recipe = include_str!("shout.rs");
    assert!(page.contains(recipe));
    assert!(recipe.lines().count() <= 40, "it is to be read at a glance");
}
