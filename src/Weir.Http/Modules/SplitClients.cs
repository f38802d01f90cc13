// split_clients: a variable whose value is chosen by the hash of a text, for A/B tests, with nginx's hash and shares.
// Frozen with the configuration; a lookup allocates nothing.
using Weir.Conf;
using Weir.Kernel;
using Weir.Session;

namespace Weir.Http.Modules;

internal sealed class SplitClientsModule : HttpModule
{
    public override string Name => "http_split_clients";

    public override void Declare(HttpDeclarations d) => d.Block("split_clients", Enter);

    private static void Enter(DirectiveUse use)
    {
        if (use.Template(0) is not { } source)
        {
            return;
        }
        if (use[1].Length < 2 || use[1][0] != '$')
        {
            use.Error(1, $"invalid variable name \"{use[1]}\"");
            return;
        }
        Variable? variable = use.Build.Configuration.Variables.Define(use[1][1..], out string? error);
        if (variable is null)
        {
            use.Error(1, error!);
            return;
        }
        var shares = new List<(uint Limit, NativeSlice Value)>();
        long sum = 0;
        ulong last = 0;
        foreach (ConfDirective line in use.Directive.Block!)
        {
            long hundredths = 0;
            if (line.Args.Length != 1 || line.Name != "*" && (!line.Name.EndsWith('%')
                || !ConfValues.TryFixed(line.Name.AsSpan(0, line.Name.Length - 1), 2, out hundredths)
                    || hundredths == 0))
            {
                use.Walker.Error(line.Span, $"invalid percent value \"{line.Name}\"");
                return;
            }
            sum += hundredths;
            if (sum > 10_000)
            {
                use.Error("percent total is greater than 100%");
                return;
            }
            last += (ulong)hundredths * 0xFFFFFFFF / 10_000;
            shares.Add((hundredths == 0 ? 0 : (uint)last, use.Build.Memory.Store(line.Args[0].Text)));
        }
        (uint Limit, NativeSlice Value)[] table = [.. shares];
        variable.Get = (Session.Session s, Variable _, ref NativeSlice value) =>
        {
            uint hash = Murmur2(source.Evaluate(s).Span);
            foreach ((uint limit, NativeSlice text) in table)
            {
                if (hash < limit || limit == 0)
                {
                    value = text;
                    break;
                }
            }
            return true;
        };
    }

    /// <summary>MurmurHash2 with seed 0.</summary>
    internal static uint Murmur2(ReadOnlySpan<byte> data)
    {
        const uint m = 0x5BD1E995;
        uint h = (uint)data.Length;
        while (data.Length >= 4)
        {
            uint k = System.Buffers.Binary.BinaryPrimitives.ReadUInt32LittleEndian(data);
            k *= m;
            k ^= k >> 24;
            k *= m;
            h = (h * m) ^ k;
            data = data[4..];
        }
        if (data.Length > 0)
        {
            for (int i = data.Length - 1; i >= 0; i--)
            {
                h ^= (uint)data[i] << (8 * i);
            }
            h *= m;
        }
        h ^= h >> 13;
        h *= m;
        return h ^ (h >> 15);
    }
}
