//! The inbound codec: a command, a ping, a fragmented message, and one that arrives in two reads.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use fanfare::frame::put_frame;
use fanfare::message::{Interest, Received, read, unmask};
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

const COMMAND: &[u8] =
    br#"{"Subscribe":{"Type":"chat.message","Object":"https://demo.personium.io/john.doe/room"}}"#;
const ALL: Interest = Interest::Messages(64 * 1024);

/// A masked frame, as a client sends it.
fn frame(opcode: OpCode, is_final: bool, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_frame(opcode, payload, &mut bytes);
    let header = bytes.len() - payload.len();
    unmask(&mut bytes[header..], [1, 2, 3, 4]);
    bytes.splice(header..header, [1, 2, 3, 4]);
    bytes[0] &= if is_final { 0xFF } else { 0x7F };
    bytes[1] |= 0x80;
    bytes
}

fn reading(criterion: &mut Criterion) {
    assert_eq!(COMMAND.len(), 88);
    let text = OpCode::Data(Data::Text);
    let command = frame(text, true, COMMAND);
    let fragments = [
        frame(text, false, &COMMAND[..30]),
        frame(OpCode::Data(Data::Continue), false, &COMMAND[30..60]),
        frame(OpCode::Data(Data::Continue), true, &COMMAND[60..]),
    ];
    let (first, second) = command.split_at(40);
    let cases: [(&str, Vec<Vec<u8>>); 4] = [
        ("a command of 88 bytes", vec![command.clone()]),
        ("a ping", vec![frame(OpCode::Control(Control::Ping), true, b"1234")]),
        ("a command in three fragments", vec![fragments.concat()]),
        ("a command in two pieces", vec![first.to_vec(), second.to_vec()]),
    ];
    for (name, pieces) in cases {
        criterion.bench_function(&format!("read {name}"), |bencher| {
            // The payload is unmasked in place, so each run needs its own copy.
            bencher.iter_batched_ref(
                || pieces.clone(),
                |pieces| {
                    let (mut inbox, mut heard) = (None, 0);
                    for piece in pieces {
                        let count = |received: Received<'_>| {
                            black_box(&received);
                            heard += 1;
                            ALL
                        };
                        read(&mut inbox, piece, ALL, count).expect("the frames are good");
                    }
                    assert_eq!(heard, 1);
                },
                BatchSize::SmallInput,
            );
        });
    }
}

criterion_group!(benches, reading);
criterion_main!(benches);
