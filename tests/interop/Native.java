// SPDX-License-Identifier: MIT
// An initiator over TCP with Java's bridge to the system's libgssapi: Native PORT SERVICE@HOST MECHANISM-OID
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.net.Socket;
import java.util.Arrays;
import org.ietf.jgss.GSSContext;
import org.ietf.jgss.GSSCredential;
import org.ietf.jgss.GSSManager;
import org.ietf.jgss.GSSName;
import org.ietf.jgss.MessageProp;
import org.ietf.jgss.Oid;

class Native {
    static byte[] receive(DataInputStream in) throws Exception {
        byte[] frame = new byte[in.readInt()];
        in.readFully(frame);
        return frame;
    }

    static void send(DataOutputStream out, byte[] frame) throws Exception {
        out.writeInt(frame.length);
        out.write(frame);
        out.flush();
    }

    public static void main(String[] words) throws Exception {
        GSSManager manager = GSSManager.getInstance();
        System.out.println("mechanisms=" + Arrays.toString(manager.getMechs()));
        Oid mech = new Oid(words[2]);
        GSSName target = manager.createName(words[1], GSSName.NT_HOSTBASED_SERVICE);
        GSSContext context = manager.createContext(target, mech, null, GSSContext.DEFAULT_LIFETIME);
        context.requestMutualAuth(true);
        context.requestConf(true);
        context.requestInteg(true);
        try (Socket socket = new Socket("127.0.0.1", Integer.parseInt(words[0]))) {
            DataInputStream in = new DataInputStream(socket.getInputStream());
            DataOutputStream out = new DataOutputStream(socket.getOutputStream());
            byte[] token = new byte[0];
            while (true) {
                token = context.initSecContext(token, 0, token.length);
                if (token != null) send(out, token);
                if (context.isEstablished()) break;
                token = receive(in);
            }
            System.out.println("client=" + context.getSrcName() + " mech=" + context.getMech());
            byte[] asked = "good day".getBytes("UTF-8");
            send(out, context.wrap(asked, 0, asked.length, new MessageProp(0, true)));
            byte[] echo = receive(in);
            byte[] plain = context.unwrap(echo, 0, echo.length, new MessageProp(0, true));
            System.out.println("echo=" + new String(plain, "UTF-8"));
        }
    }
}
