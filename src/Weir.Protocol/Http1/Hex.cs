// Hexadecimal digits. Pure, no memory.
namespace Weir.Protocol.Http1;

internal static class Hex
{
    public static bool IsDigit(byte c) => Value(c) >= 0;

    /// <summary>0 to 15, or -1.</summary>
    public static int Value(byte c)
    {
        int digit = c - '0';
        if ((uint)digit <= 9)
        {
            return digit;
        }
        int letter = (c | 0x20) - 'a';
        return (uint)letter <= 5 ? letter + 10 : -1;
    }

    public static ReadOnlySpan<byte> Upper => "0123456789ABCDEF"u8;
    public static ReadOnlySpan<byte> LowerCase => "0123456789abcdef"u8;
}
