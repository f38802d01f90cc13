// The outcome of one system call as a value: what it returned, or -errno. Nothing here throws.
namespace Weir.Kernel;

/// <summary>The value a system call returned (zero or more), or its error number negated.</summary>
public readonly struct SysResult(long value)
{
    public readonly long Value = value;

    public bool IsError => Value < 0;
    public bool IsOk => Value >= 0;

    /// <summary>The error number (positive), or 0.</summary>
    public int Errno => Value < 0 ? (int)-Value : 0;

    /// <summary>The value as a descriptor or count. Meaningful only when <see cref="IsOk"/>.</summary>
    public int Int => (int)Value;

    public static SysResult Error(int errno) => new(-errno);

    public override string ToString() => IsError ? $"({Errno}: {Kernel.Errno.Describe(Errno)})" : Value.ToString();
}
