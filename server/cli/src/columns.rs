//! Columns of the tables, each with its meaning: the tables take their headers from here, and reports print the meanings.

/// A column: its header and what it holds.
pub(crate) type Column = (&'static str, &'static str);

/// The headers of `columns`.
pub(crate) fn headers<const N: usize>(columns: [Column; N]) -> [&'static str; N] {
    columns.map(|(header, _)| header)
}

/// What `suf bench` prints, one row per record.
pub(crate) const SUMMARY: [Column; 9] = [
    MODEL,
    PROTOCOL,
    LINK,
    EVAL_MS,
    ("quartiles", "first and third quartile of the repeats' eval ms"),
    KEY_BYTES,
    BITS,
    ROUNDS,
    WRONG,
];

/// All that reports say of a record, one row per record.
pub(crate) const FIGURES: [Column; 17] = [
    MODEL,
    ("gate", "the function"),
    PROTOCOL,
    LINK,
    ("elements", "elements of the tensor"),
    KEY_BYTES,
    ("key ms", "from the dealer's first request to its last key byte, for both parties"),
    ("ship ms", "from the first key byte sent to the last one stored and checked, at the slower party"),
    EVAL_MS,
    ("quartiles", "first and third quartile of the repeats' eval ms"),
    ("comp ms", "part of eval ms in which the party computed"),
    ("comm ms", "the rest of eval ms: messages were on the link, or the other party computed"),
    ROUNDS,
    BITS,
    ("max err", "largest error against the real function"),
    ("rms err", "root mean square error against the real function"),
    WRONG,
];

/// Where an evaluation's time goes when a GPU computes. Times are by the card's clock.
pub(crate) const SPLITS: [Column; 9] = [
    MODEL,
    PROTOCOL,
    LINK,
    EVAL_MS,
    ("kernels", "ms in which a kernel ran, of any tile"),
    ("copies", "ms in which bytes moved between messages and the card, and no kernel ran"),
    ("waiting", "ms in which the party waited for its card, or handed work to it"),
    ("on the link", "ms in which messages were on their way, or the other party computed"),
    ("SM, memory MHz", "clocks of the card's multiprocessors and memory when a run ended"),
];

/// Measured and projected times on links with a delay and a rate.
pub(crate) const LINKS: [Column; 7] = [
    MODEL,
    PROTOCOL,
    ("link", "link profile, and how it is made: shaped in the parties' sockets, or netem by the kernel"),
    ("measured s", "eval ms in seconds"),
    (
        "projected s",
        "computation + 2 x bytes / bandwidth + rounds x latency, as published. The computation is the loopback row's; \
         bytes are sent and received",
    ),
    ("limit s", "rounds x delay + bits of one direction / rate + computation, one after another"),
    ("published s", "published for the original system: its own computation in the same formula"),
];

/// What computing costs on one core, in nanoseconds and calls of AES for each element.
pub(crate) const COSTS: [Column; 11] = [
    ("gate", "the function"),
    PROTOCOL,
    KEY_BYTES,
    ("dealer ns", "making the keys of both parties"),
    ("dealer AES", "calls of AES in that"),
    ("dealer x limit", "dealer ns over the time that these calls take in a long stream"),
    ("eval ns, seeded", "evaluation at the party that expands its keys from a seed"),
    ("eval ns, explicit", "evaluation at the party that receives its keys"),
    ("eval ns, mean", "mean of both"),
    ("eval AES", "calls of AES, of the seeded party and the other where they differ"),
    ("eval x limit", "the mean over the time that the mean number of calls takes in a long stream"),
];

const MODEL: Column =
    ("model", "the activation of this transformer, with its size at 128 tokens unless told otherwise");
const PROTOCOL: Column = ("protocol", "protocol and, for onehot, its digits");
const LENGTH: Column = ("length", "exact: the number of tokens is public; bucket: it is hidden by padding");
const ACTIVATION: Column = ("activation", "protocol of the activation and, for onehot, its digits");
const LINK: Column = ("link", "link profile between the parties");
const EVAL_MS: Column = (
    "eval ms",
    "from masked input and keys in place to masked output, at the slower party; median of the repeats",
);
const KEY_BYTES: Column = ("key B/elem", "bytes of gate key for each element, mean of both parties");
const BITS: Column = ("bits/elem", "bits that each party sends to the other for each element");
const ROUNDS: Column = ("rounds", "causal depth of the messages, measured at the link");
const WRONG: Column = ("wrong", "outputs that the protocol's definition does not allow");

/// A model's whole program, one row per record.
pub(crate) const MODELS: [Column; 15] = [
    MODEL,
    LENGTH,
    ("weights", "public: parties and dealer know them; private: nobody but their owner, who has loaded them"),
    ACTIVATION,
    LINK,
    ("tokens", "tokens of a text, padding counted"),
    ("batch", "texts that are evaluated together"),
    ("eval ms", "from the opening of the inputs to the last node, at the slower party"),
    ("quartiles", "first and third quartile of the repeats' eval ms"),
    ("rounds", "causal depth as measured at the link, the opening of the inputs counted"),
    ("sent MB", "payload that a party sends"),
    ("keys MB", "keys of a party, the mean of both"),
    ("key ms", "from the dealer's first request to its last key byte, for both parties"),
    ("cosine", "the smallest one of a vector with that of the same weights in 64-bit floats"),
    ("wrong", "elements that are not what their node's definition says, over all nodes and repeats"),
];

/// What SIGMA costs on a model.
pub(crate) const SIGMA: [Column; 6] = [
    MODEL,
    ("tokens", "tokens of a text"),
    ("batch", "texts that are evaluated together"),
    ("SIGMA rounds", "exchanges of SIGMA, by formula"),
    ("SIGMA sent MB", "payload that a party of SIGMA sends, by formula"),
    ("SIGMA keys MB", "keys of a party of SIGMA, by formula"),
];

/// What a link with a delay and a rate predicts for a model's program, one row per record.
pub(crate) const PREDICTIONS: [Column; 11] = [
    MODEL,
    LENGTH,
    ACTIVATION,
    ("link", "link profile, and how it is made: shaped in the parties' sockets, or netem by the kernel"),
    ("tokens", "tokens of a text, padding counted"),
    ("rounds x delay", "ms: rounds times the delay of one direction"),
    ("bits / rate", "ms: payload bits of one direction over the rate"),
    ("loopback", "ms: eval ms of the same program on loopback, by the same bench"),
    ("predicted ms", "the sum of the three"),
    ("measured ms", "eval ms over this link"),
    ("ratio", "measured over predicted"),
];

/// The causes on a critical path.
pub(crate) const PATH_CAUSES: [Column; 4] = [
    ("computes", "ms of the critical path in which a thread of the party worked"),
    (
        "turn",
        "ms of the critical path in which all was there, but threads were busy with other parts, or too many parts were in flight",
    ),
    ("peer", "ms of the critical path in which the peer had not sent its message yet"),
    ("on the link", "ms of the critical path in which the peer's message was on its way"),
];

/// What the end of a run waited for, one row per record.
pub(crate) const PATHS: [Column; 6] = [
    MODEL,
    LENGTH,
    ACTIVATION,
    LINK,
    ("tokens", "tokens of a text, padding counted"),
    ("path ms", "the critical path of the slower party in the middle repeat; the four causes add up to it"),
];

/// The nodes of a model's program.
pub(crate) const NODES: [Column; 12] = [
    ("node", "its name"),
    ("op", "the operation"),
    ("rounds", "rounds of its own; those of nodes side by side overlap"),
    ("bits", "payload bits of one direction, declared and measured"),
    ("sent bytes", "payload bytes of one direction"),
    ("key bytes", "keys of a party, the mean of both; the first node has the seed too"),
    ("comp ms", "time in which the slower party worked on it"),
    ("limit ms", "the least time that one core needs for the node's work, at the processor's rates"),
    ("limit by", "what takes that: calls of AES, products modulo 2^64, or memory"),
    ("from ms", "when the first work on it began, from the opening of the inputs on"),
    ("to ms", "when the last work on it ended"),
    ("wrong", "elements that are not what its definition says, over all repeats"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_table_has_two_columns_of_one_name() {
        for columns in [
            &SUMMARY[..],
            &FIGURES,
            &SPLITS,
            &LINKS,
            &COSTS,
            &MODELS,
            &PREDICTIONS,
            &PATHS,
            &PATH_CAUSES,
            &SIGMA,
            &NODES,
        ] {
            for (at, (header, meaning)) in columns.iter().enumerate() {
                assert!(!meaning.is_empty(), "{header}");
                assert!(!columns[..at].iter().any(|(before, _)| before == header), "{header}");
            }
        }
    }
}
