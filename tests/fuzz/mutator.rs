//! Mutates seeds into inputs: flips, cuts, copies, words, boundary values, parts of other seeds.

/// Maximum length of an input; anything longer is a test of its own.
const INPUT_BYTES_MAX: usize = 4096;
/// Maximum number of changes to one input.
const CHANGES_MAX: usize = 6;
/// Boundary values.
const EDGES: [u8; 9] = [0, 1, 9, 10, 0x20, 0x7d, 0x7e, 0x80, 0xff];

pub(crate) struct Mutator {
    state: u64,
    seeds: Vec<Vec<u8>>,
    words: Vec<Vec<u8>>,
    input: Vec<u8>,
}

impl Mutator {
    pub(crate) fn new(seed: u64, seeds: Vec<Vec<u8>>, words: Vec<Vec<u8>>) -> Self {
        Self { state: seed | 1 << 63, seeds, words, input: Vec::new() }
    }

    /// The next input.
    pub(crate) fn next(&mut self) -> &[u8] {
        self.input = self.pick().to_vec();
        for _ in 0..=self.below(CHANGES_MAX) {
            self.change();
        }
        self.input.truncate(INPUT_BYTES_MAX);
        &self.input
    }

    fn change(&mut self) {
        let at = self.below(self.input.len() + 1);
        let length = self.below(16) + 1;
        let end = (at + length).min(self.input.len());
        match self.below(9) {
            0 if at < self.input.len() => {
                let bit = self.below(8);
                self.input[at] ^= 1 << bit;
            }
            1 if at < self.input.len() => {
                let edge = self.below(EDGES.len());
                self.input[at] = EDGES[edge];
            }
            2 => drop(self.input.drain(at..end)),
            3 => {
                let copy = self.input[at..end].to_vec();
                let to = self.below(self.input.len() + 1);
                self.input.splice(to..to, copy);
            }
            4 | 5 if !self.words.is_empty() => {
                let word = self.below(self.words.len());
                let word = self.words[word].clone();
                let end = if self.below(2) == 0 { at } else { end };
                self.input.splice(at..end, word);
            }
            6 => {
                // The front of this input and the back of another seed.
                let other = self.pick().to_vec();
                let from = self.below(other.len() + 1);
                self.input.truncate(at);
                self.input.extend_from_slice(&other[from..]);
            }
            7 => self.move_line(),
            _ => {
                let byte = self.draw() as u8;
                self.input.insert(at, byte);
            }
        }
    }

    /// Inserts a line of this or of another seed elsewhere: scripts and heads consist of lines.
    fn move_line(&mut self) {
        let other = if self.below(2) == 0 { self.input.clone() } else { self.pick().to_vec() };
        let lines: Vec<&[u8]> = other.split_inclusive(|byte| *byte == b'\n').collect();
        if lines.is_empty() {
            return;
        }
        let line = lines[self.below(lines.len())];
        let ends = self.input.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        let places: Vec<usize> = [0].into_iter().chain(ends.map(|(at, _)| at + 1)).collect();
        let to = places[self.below(places.len())];
        self.input.splice(to..to, line.iter().copied());
    }

    fn pick(&mut self) -> &[u8] {
        if self.seeds.is_empty() {
            return &[];
        }
        let index = self.below(self.seeds.len());
        &self.seeds[index]
    }

    fn below(&mut self, count: usize) -> usize {
        (self.draw() % count as u64) as usize
    }

    /// The next number of xorshift64*.
    fn draw(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}
