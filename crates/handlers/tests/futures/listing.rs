//! The list of tasks.

use std::future::pending;

use handlers::futures::{self, Spawner};

use crate::{reactor, turn};

#[test]
fn the_list_of_tasks_names_type_line_polls_and_state() {
    let mut reactor = reactor::<()>();
    assert!(futures::tasks(&mut reactor).is_empty());
    let line = line!() + 1;
    let key = futures::spawn(&mut reactor, pending::<()>(), |(), _cx| ()).unwrap();
    let named = format!(
        "0v0 core::future::pending::Pending<()> {}:{line}:15",
        file!()
    );
    let shown = |reactor: &mut _| futures::tasks(reactor)[0].to_string();
    assert_eq!(shown(&mut reactor), format!("{named}, 0 polls, woken"));
    turn(&mut reactor, &mut ());
    assert_eq!(shown(&mut reactor), format!("{named}, 1 polls"));
    key.set_background(&mut reactor, true).unwrap();
    assert_eq!(shown(&mut reactor), format!("{named}, 1 polls, background"));
}

#[test]
fn a_task_of_a_task_is_listed_with_the_line_of_its_spawn() {
    let mut reactor = reactor::<()>();
    let line = line!() + 1;
    let spawns = async { drop(futures::spawn_local(pending::<()>())) };
    futures::spawn(&mut reactor, spawns, |(), _cx| ()).unwrap();
    turn(&mut reactor, &mut ());
    let tasks = futures::tasks(&mut reactor);
    let lines: Vec<_> = tasks.iter().map(|task| task.origin.line()).collect();
    assert_eq!(lines, [line]);
}

#[test]
fn a_task_of_a_spawner_is_listed_with_the_line_of_its_spawn() {
    let mut reactor = reactor::<()>();
    let spawner = Spawner::new(&mut reactor).unwrap();
    let line = line!() + 1;
    let spawned = spawner.spawn(|_cx| pending::<()>(), |(), _cx| ());
    spawned.unwrap();
    turn(&mut reactor, &mut ());
    let origin = futures::tasks(&mut reactor)[0].origin;
    assert_eq!((origin.file(), origin.line()), (file!(), line));
}
