//! The echo server of the README.

use handlers::{ConnectionOptions, ListenOptions, on_data};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut reactor = reactor::Reactor::<u64>::new()?;
    let listener = ListenOptions::new().bind(&"127.0.0.1:7777".parse()?)?;
    listener.serve(&mut reactor, &ConnectionOptions::new(), |_peer, _cx| {
        Ok(on_data(|data, connection, cx| {
            let _ = connection.write(data)?;
            *cx.state += data.len() as u64;
            Ok(data.len())
        }))
    })?;
    reactor.run(&mut 0)?;
    Ok(())
}
