//! Changes inputs at random, for where no coverage guides.

/// Makes inputs out of others. The same seed makes the same ones.
pub struct Mutator(u64);

/// Bytes that stand at the edges of what numbers mean.
const EDGES: [&[u8]; 12] = [
    &[0x00],
    &[0x01],
    &[0x17],
    &[0x18],
    &[0x7f],
    &[0x80],
    &[0xff],
    &[0x00, 0x00, 0x00, 0x00],
    &[0xff, 0xff, 0xff, 0xff],
    &[0xff, 0xff, 0xff, 0xfe],
    &[0x7f, 0xff, 0xff, 0xff],
    &[0x00, 0x02, 0x00, 0x01],
];

impl Mutator {
    /// Starts from a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, count: usize) -> usize {
        (self.next() % count as u64) as usize
    }

    /// Takes one of these inputs and changes it in one to four places.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn mutate(&mut self, inputs: &[Vec<u8>]) -> Vec<u8> {
        let at = self.below(inputs.len());
        let mut input = inputs[at].clone();
        for _ in 0..=self.below(4) {
            let other = self.below(inputs.len());
            self.change(&mut input, &inputs[other]);
        }
        input
    }

    fn change(&mut self, input: &mut Vec<u8>, other: &[u8]) {
        let start = self.below(input.len() + 1);
        let length = self.below(16).min(input.len() - start);
        match self.below(7) {
            0 if start < input.len() => input[start] ^= 1 << self.below(8),
            1 if start < input.len() => input[start] = self.next() as u8,
            2 => {
                let edge = EDGES[self.below(EDGES.len())];
                let end = (start + edge.len()).min(input.len());
                input.splice(start..end, edge.iter().copied());
            }
            3 => drop(input.drain(start..start + length)),
            4 => {
                let again = input[start..start + length].to_vec();
                input.splice(start..start, again);
            }
            5 => input.truncate(start),
            _ => {
                let from = self.below(other.len() + 1);
                input.truncate(start);
                input.extend_from_slice(&other[from..]);
            }
        }
    }
}
