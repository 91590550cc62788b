//! What asking for the peer of a connection costs: `Access::admit`, as the listener calls it.

use std::hint::black_box;
use std::net::{TcpListener, TcpStream};

use criterion::{Criterion, criterion_group, criterion_main};
use tokencached::server::access::{Access, Ends, Rules, Socket, Subject};

fn admit(criterion: &mut Criterion) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (accepted, peer) = listener.accept().unwrap();
    let ends = Ends::new(peer, accepted.local_addr().unwrap());
    let rules = Rules {
        connect: vec![Subject::System, Subject::Server],
        system_uid_max: 999,
        ..Rules::default()
    };
    let mut group = criterion.benchmark_group("admit");
    for (name, rules) in [
        ("without rules", None),
        ("by the socket table", Some(rules)),
    ] {
        let access = Access::new(rules, false).unwrap();
        group.bench_function(name, |bencher| {
            bencher.iter(|| black_box(access.admit(Socket::Tcp(&accepted, ends))));
        });
    }
    group.finish();
}

criterion_group!(benches, admit);
criterion_main!(benches);
