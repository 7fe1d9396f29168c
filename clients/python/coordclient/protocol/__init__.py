"""The contract that both sides speak: paths, errors, operations, codec, frames. Needs the standard library and msgpack."""
