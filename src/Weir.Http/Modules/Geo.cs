// geo: a variable whose value depends on an address: networks (the longest prefix wins) or ranges. Frozen with the
// configuration; a lookup allocates nothing.
using System.Buffers.Binary;
using Weir.Conf;
using Weir.Kernel;
using Weir.Session;

namespace Weir.Http.Modules;

internal sealed class GeoModule : HttpModule
{
    public override string Name => "http_geo";

    public override void Declare(HttpDeclarations d) => d.Block("geo", Enter);

    private static void Enter(DirectiveUse use)
    {
        string name = use[use.Count - 1];
        string source = use.Count == 2 ? use[0] : "";
        if (name.Length < 2 || name[0] != '$' || source.Length > 0 && (source.Length < 2 || source[0] != '$'))
        {
            use.Error($"invalid variable name \"{(name.Length < 2 || name[0] != '$' ? name : source)}\"");
            return;
        }
        VariableTable variables = use.Build.Configuration.Variables;
        Variable? variable = variables.Define(name[1..], out string? error);
        if (variable is null)
        {
            use.Error(use.Count - 1, error!);
            return;
        }
        var table = new GeoTable(source.Length > 0 ? variables.Use(source[1..]) : null, use.Build.Memory);
        foreach (ConfDirective line in use.Directive.Block!)
        {
            if (!line.Broken)
            {
                table.Read(use, line);
            }
        }
        variable.Get = table.Get;
    }
}

/// <summary>One geo block.</summary>
internal sealed class GeoTable(Variable? source, NativeArena memory)
{
    private readonly GeoNetworks _inet = new();
    private readonly GeoNetworks _inet6 = new();
    private readonly GeoRanges _ranges = new();
    private readonly List<Cidr> _proxies = [];
    private NativeSlice _default;
    private bool _hasDefault;
    private bool _isRanges;
    private bool _hasLines;
    private bool _recursive;
    private Cidr[]? _frozenProxies;

    internal void Read(DirectiveUse use, ConfDirective line)
    {
        ConfWalker walker = use.Walker;
        if (line.Args.Length == 0)
        {
            switch (line.Name)
            {
                case "ranges" when !_hasLines:
                    _isRanges = true;
                    return;
                case "ranges":
                    walker.Error(line.Span,
                        "the \"ranges\" directive must be the first directive inside \"geo\" block");
                    return;
                case "proxy_recursive":
                    _recursive = true;
                    return;
            }
        }
        if (line.Args.Length != 1)
        {
            walker.Error(line.Span, "invalid number of the geo parameters");
            return;
        }
        string value = line.Args[0].Text;
        switch (line.Name)
        {
            case "proxy":
                if (TryNetwork(use, line, value, out Cidr proxy))
                {
                    _proxies.Add(proxy);
                }
                return;
            case "default":
                if (_hasDefault)
                {
                    walker.Warn(line.Span, $"duplicate default geo value: \"{value}\", old value: \"{_default}\"");
                }
                _hasDefault = true;
                _default = memory.Store(value);
                return;
        }
        _hasLines = true;
        if (_isRanges)
        {
            AddRange(use, line, line.Name == "delete" ? value : line.Name, line.Name == "delete" ? null : value);
        }
        else if (TryNetwork(use, line, line.Name == "delete" ? value : line.Name, out Cidr network))
        {
            GeoNetworks networks = network.Family == SocketFamily.Inet ? _inet : _inet6;
            if (line.Name == "delete")
            {
                if (!networks.Remove(network))
                {
                    walker.Warn(line.Span, $"no network \"{value}\" to delete");
                }
            }
            else if (networks.Set(network, memory.Store(value)) is { } old)
            {
                walker.Warn(line.Span, $"duplicate network \"{line.Name}\", value: \"{value}\", old value: \"{old}\"");
            }
        }
    }

    private static bool TryNetwork(DirectiveUse use, ConfDirective line, string text, out Cidr network)
    {
        if (text == "255.255.255.255")
        {
            text = "255.255.255.255/32";
        }
        if (!Cidr.TryParse(text, out network, out bool hasLowBits))
        {
            use.Walker.Error(line.Span, $"invalid network \"{text}\"");
            return false;
        }
        if (hasLowBits)
        {
            use.Walker.Warn(line.Span, $"low address bits of {text} are meaningless");
        }
        return true;
    }

    private void AddRange(DirectiveUse use, ConfDirective line, string text, string? value)
    {
        int dash = text.IndexOf('-');
        Span<byte> bytes = stackalloc byte[4];
        if (dash > 0 && SocketAddress.TryParseInet(text.AsSpan(0, dash), bytes))
        {
            uint first = BinaryPrimitives.ReadUInt32BigEndian(bytes);
            if (SocketAddress.TryParseInet(text.AsSpan(dash + 1), bytes))
            {
                uint last = BinaryPrimitives.ReadUInt32BigEndian(bytes);
                if (first <= last)
                {
                    _ranges.Set(first, last, value is null ? null : memory.Store(value));
                    return;
                }
            }
        }
        use.Walker.Error(line.Span, $"invalid range \"{text}\"");
    }

    internal bool Get(Session.Session s, Variable variable, ref NativeSlice value)
    {
        (SocketFamily family, UInt128 address) = Address((HttpRequest)s);
        value = _default;
        if (family == SocketFamily.Inet)
        {
            NativeSlice found = default;
            if (_isRanges ? _ranges.TryFind((uint)address, out found) : _inet.TryFind(address, out found))
            {
                value = found;
            }
        }
        else if (family == SocketFamily.Inet6 && _inet6.TryFind(address, out NativeSlice found))
        {
            value = found;
        }
        return true;
    }

    private (SocketFamily Family, UInt128 Value) Address(HttpRequest r)
    {
        if (source is not null)
        {
            r.TryGet(source, out NativeSlice text);
            return ForwardedAddress.TryParse(r, text.Span, out NativeSlice native)
                ? Cidr.Read(native.Span)
                : (SocketFamily.Inet, uint.MaxValue);
        }
        if (_proxies.Count == 0 || r.HeadBytes.IsEmpty)
        {
            return Cidr.Read(r.RemoteAddress);
        }
        _frozenProxies ??= [.. _proxies];
        NativeSlice found = default;
        int field = r.Head.Find(Protocol.Http1.KnownHeader.XForwardedFor);
        if (field >= 0)
        {
            for (int next = r.Head.FindNext(field); next >= 0; next = r.Head.FindNext(field))
            {
                field = next;
            }
            NativeSlice list = r.HeadBytes.Slice(r.Head[field].ValueStart, r.Head[field].ValueLength);
            ForwardedAddress.TryFind(r, list, _frozenProxies, _recursive, ref found);
        }
        return Cidr.Read(found.IsEmpty ? r.RemoteAddress : found.Span);
    }
}

/// <summary>Networks of one family by prefix length, longest first.</summary>
internal sealed class GeoNetworks
{
    private readonly SortedList<int, (UInt128 Mask, Dictionary<UInt128, NativeSlice> Values)> _byLength = [];

    /// <summary>The old value when there was one.</summary>
    internal NativeSlice? Set(Cidr network, NativeSlice value)
    {
        int key = -network.PrefixLength;
        if (!_byLength.TryGetValue(key, out var level))
        {
            level = (network.Mask, []);
            _byLength.Add(key, level);
        }
        NativeSlice? old = level.Values.TryGetValue(network.Address, out NativeSlice known) ? known : null;
        level.Values[network.Address] = value;
        return old;
    }

    internal bool Remove(Cidr network) =>
        _byLength.TryGetValue(-network.PrefixLength, out var level) && level.Values.Remove(network.Address);

    internal bool TryFind(UInt128 address, out NativeSlice value)
    {
        IList<(UInt128 Mask, Dictionary<UInt128, NativeSlice> Values)> levels = _byLength.Values;
        for (int i = 0; i < levels.Count; i++)
        {
            (UInt128 mask, Dictionary<UInt128, NativeSlice> values) = levels[i];
            if (values.TryGetValue(address & mask, out value))
            {
                return true;
            }
        }
        value = default;
        return false;
    }
}

/// <summary>Ranges of IPv4 addresses that do not overlap, in order; a later one cuts what was there.</summary>
internal sealed class GeoRanges
{
    private readonly record struct Range(uint First, uint Last, NativeSlice Value);

    private readonly List<Range> _ranges = [];

    /// <param name="value">Null takes the range out.</param>
    internal void Set(uint first, uint last, NativeSlice? value)
    {
        var kept = new List<Range>(_ranges.Count + 2);
        foreach (Range range in _ranges)
        {
            if (range.Last < first || range.First > last)
            {
                kept.Add(range);
                continue;
            }
            if (range.First < first)
            {
                kept.Add(range with { Last = first - 1 });
            }
            if (range.Last > last)
            {
                kept.Add(range with { First = last + 1 });
            }
        }
        if (value is { } text)
        {
            kept.Add(new Range(first, last, text));
        }
        kept.Sort(static (a, b) => a.First.CompareTo(b.First));
        _ranges.Clear();
        _ranges.AddRange(kept);
    }

    internal bool TryFind(uint address, out NativeSlice value)
    {
        int low = 0;
        int high = _ranges.Count - 1;
        while (low <= high)
        {
            int middle = (low + high) >> 1;
            Range range = _ranges[middle];
            if (address < range.First)
            {
                high = middle - 1;
            }
            else if (address > range.Last)
            {
                low = middle + 1;
            }
            else
            {
                value = range.Value;
                return true;
            }
        }
        value = default;
        return false;
    }
}
