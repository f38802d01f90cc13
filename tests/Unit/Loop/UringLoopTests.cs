// What only the io_uring engine can get wrong: buffers that run out, a full submission ring, receives that end by
// themselves, memory and slots that are used again too early, sends that are continued twice.
using Weir.Kernel;
using Weir.Kernel.Net;
using Weir.Loop;
using Xunit;

namespace Weir.Tests.Unit.Loop;

public sealed class UringLoopTests
{
    [Fact(DisplayName = "io_uring: what is added while a send is under way leaves once, behind it")]
    public void AddedWhileFlying()
    {
        using var rig = new Rig(Rig.Uring);
        byte[] sent = Rig.Pattern(200_000);
        byte[] address = rig.Listen(c => Serve(c).Forget());
        rig.Run(async () =>
        {
            Connection c = await rig.Connect(address);
            var got = new MemoryStream();
            Assert.Equal(0, await Rig.ReadAll(c, got));
            Assert.True(sent.AsSpan().SequenceEqual(got.ToArray()));
            c.Close();
        });
        rig.RunUntil(() => rig.Loop.Buffers.RentedBytes == 0);

        async LoopTask Serve(Connection c)
        {
            BufferChain chain = rig.Loop.RentChain();
            for (int at = 0; at < sent.Length; at += 1000)
            {
                chain.Append(sent.AsSpan(at, 1000));
                Assert.True(c.Send(chain));
                if (at % 7000 == 0)
                {
                    await rig.Loop.YieldAsync();
                }
            }
            Assert.False((await c.DrainAsync(chain)).IsError);
            Assert.Equal(sent.Length, c.SentBytes);
            rig.Loop.Return(chain);
            c.Close();
        }
    }
}
