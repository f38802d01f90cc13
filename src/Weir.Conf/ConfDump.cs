// What `-T` prints: every file of a configuration once, in the order they were read, byte for byte.
namespace Weir.Conf;

public static class ConfDump
{
    public static void Write(ConfTree tree, Stream to)
    {
        foreach (ConfFile file in tree.Files)
        {
            to.Write("# configuration file "u8);
            to.Write(ConfText.Bytes(file.Path));
            to.Write(":\n"u8);
            to.Write(file.Bytes);
            to.WriteByte((byte)'\n');
        }
    }
}
