//! Protobuf messages on gRPC streams, as tonic has them, but for the buffers that a stream holds for
//! as long as it lives: most of ours are idle most of the time, and a CA holds thousands.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::ProstCodec;

/// What a stream holds while it is idle, each way; a longer message gets what it needs.
const IDLE: usize = 512;
/// tonic's: what is gathered before it is sent.
const GATHERED: usize = 32 * 1024;

/// A codec with small buffers.
#[derive(Debug)]
pub struct SlimCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for SlimCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for SlimCodec<T, U>
where
    T: Message + 'static,
    U: Message + Default + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = <ProstCodec<T, U> as Codec>::Encoder;
    type Decoder = <ProstCodec<T, U> as Codec>::Decoder;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::new(IDLE, GATHERED))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<T, U>::raw_decoder(BufferSettings::new(IDLE, GATHERED))
    }
}
