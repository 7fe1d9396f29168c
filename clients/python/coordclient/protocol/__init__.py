"""The contract that both sides speak: paths, errors, operations, codec, frames. Needs only msgpack."""
